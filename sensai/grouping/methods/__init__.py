"""Methods that form groups of classes: one method a file, found by name.

A method is a function that returns a partition of the K classes, each group in ascending order, the same for the same
arguments. Its parameters say what it uses, and so which parameters of the entry point its groups depend on:

| parameter | what it is | depends on |
| --- | --- | --- |
| `num_classes` | K | |
| `class_names` | their names, in the order of the labels | |
| `statistics` | site -> SiteStatistics of the base model's activations | |
| `costs` | MemberCosts: the FLOPs of a member of some classes | `ratio` |
| `similarity` | float64 (K, K), symmetric, larger where two classes are more alike; the diagonal means nothing | `similarity`, and `ratio` for the coupling |
| `confusion` | float64 (K, K), symmetric, larger where the base model confuses two classes on validation data | |
| `n_groups` | G, with 1 < G < K; the sizes of the groups must differ by at most one | `n_groups` |
| `seed` | of what is sampled | `seed` |
| `groups_file` | path of the user's file | `groups_file`, by content |

The trait `joinable` says which groups of the method are joined where `overlap` puts each class into several members (see
`sensai.grouping.overlaps`): `similar` or `dissimilar` ones, those that make `cheap` members (the method then takes `costs`), or
any (`random`; it then takes `seed`). None: the groups stand as the method returns them; they may share classes, and be more
than there are classes.

Imports without torch, so that the command line is parsed at once: heavy imports stand inside the functions.
"""  # noqa: E501

from sensai.parts import Family

METHODS = Family(
    "grouping method",
    __name__,
    "sensai.grouping_methods",
    (
        "num_classes",
        "class_names",
        "statistics",
        "costs",
        "similarity",
        "confusion",
        "n_groups",
        "seed",
        "groups_file",
    ),
    {"joinable": "similar"},
)
