"""How the members' outputs become class probabilities: one combiner a file, found by name.

A combiner is a function that fits a linear map on validation data. It returns the map's weight float64 (K, F) and bias
float64 (K,), for K classes and F outputs of all members side by side. The probabilities are the softmax of
`outputs @ weight.T + bias`; a registered ensemble computes them from these two arrays alone. A combiner that fits nothing
returns None: the probabilities are then the members' own scores, normalised. The function's parameters say what it uses:

| parameter | what it is |
| --- | --- |
| `outputs` | float64 (N, F): what all members say of N validation images |
| `contrasts` | float64 (K, F): the map from these to class logits, see `class_contrasts` |
| `labels` | int64 (N,), from 0 to K - 1 |
| `owners` | int64 (F,), the number of each output's member |

| trait | what it declares | default |
| --- | --- | --- |
| `weights` | function of K and F: how many weights are fitted at most. `evaluate` compares all combiners that declare it, the fewest weights first | None: it is fitted where its name is given |
| `shared` | `evaluate` compares it only where members share classes | False |
| `per_class` | it learns of single classes, so it needs an image of each; without one, temperature takes its place | True |

Imports without torch, so that the command line is parsed at once: heavy imports stand inside the functions.
"""  # noqa: E501

from sensai.parts import Family

COMBINERS = Family(
    "combiner",
    __name__,
    "sensai.combiners",
    ("outputs", "contrasts", "labels", "owners"),
    {"weights": None, "shared": False, "per_class": True},
)
