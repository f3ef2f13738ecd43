"""All members learn together from the labels and the base model."""

from typing import TYPE_CHECKING

from sensai.training.losses import LOSSES

if TYPE_CHECKING:
    from torch import Tensor


@LOSSES.register("joint_kd", "as joint, and kd_weight of the target is the base model's probability", joint=True)
def joint_kd(logits: "Tensor", targets: "Tensor", weight: "Tensor", teacher: "Tensor", kd_weight: float) -> "Tensor":
    """Return the weighted cross entropy over all K classes of labels mixed with the teacher (Hinton et al. 2015)."""
    from sensai.training.cross_entropy import taught_cross_entropy

    return taught_cross_entropy(logits, targets, weight, teacher, kd_weight)
