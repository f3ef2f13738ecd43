"""All members learn together from the labels."""

from typing import TYPE_CHECKING

from sensai.training.losses import LOSSES

if TYPE_CHECKING:
    from torch import Tensor


@LOSSES.register("joint", "all members learn together, by one cross entropy over the logits of all classes", joint=True)
def joint(logits: "Tensor", targets: "Tensor", weight: "Tensor") -> "Tensor":
    """Return the weighted cross entropy of the labels over all K classes."""
    from sensai.training.cross_entropy import label_cross_entropy

    return label_cross_entropy(logits, targets, weight)
