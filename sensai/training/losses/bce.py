"""Each member learns from the labels by itself."""

from typing import TYPE_CHECKING

from sensai.training.losses import LOSSES

if TYPE_CHECKING:
    from torch import Tensor


@LOSSES.register("bce", "each member learns from the labels by itself")
def bce(logits: "Tensor", targets: "Tensor", weight: "Tensor") -> "Tensor":
    """Return the weighted cross entropy of the labels; for two outcomes it is the binary cross entropy."""
    from sensai.training.cross_entropy import label_cross_entropy

    return label_cross_entropy(logits, targets, weight)
