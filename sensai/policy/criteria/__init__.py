"""Criteria that rank channels: one criterion a file, found by name.

A criterion is a function that returns, for every site, sort keys float64 (keys, C). The channel with the smallest first key
goes first; the second key settles ties of the first. The keys of all sites are on one scale, since `ranking=global` ranks
them together. A channel without statistics (NaN) goes last. The function's parameters say what it uses:

| parameter | what it is | depends on |
| --- | --- | --- |
| `apoz` | site -> float64 (C,): share of zeros over the member's classes | |
| `mean` | site -> float64 (C,): mean absolute activation over these | |
| `sensitivity` | site -> float64 (C,): first-order change of the loss over these | a backward pass of `activations` |
| `filter_norms` | site -> float64 (C,): sum of the absolute weights that make the channel | |
| `channels` | site -> C | |
| `classes` | labels of the member | |
| `seed` | of what is sampled | `seed` |

Imports without torch, so that the command line is parsed at once: heavy imports stand inside the functions.
"""

from sensai.parts import Family

CRITERIA = Family(
    "criterion",
    __name__,
    "sensai.criteria",
    ("apoz", "mean", "sensitivity", "filter_norms", "channels", "classes", "seed"),
)
