"""All members learn together from the labels and the base model."""

from typing import TYPE_CHECKING

from sensai.training.losses import LOSSES

if TYPE_CHECKING:
    from torch import Tensor


@LOSSES.register("joint_kd", "as joint, and kd_weight of the target is the base model's probability", joint=True)
def joint_kd(
    logits: "Tensor",
    targets: "Tensor",
    weight: "Tensor",
    teacher: "Tensor",
    kd_weight: float,
    kd_temperature: float,
    logit_standardization: bool,
) -> "Tensor":
    """Return the loss of distillation over all K classes (see `taught_cross_entropy`)."""
    from sensai.training.cross_entropy import taught_cross_entropy

    return taught_cross_entropy(logits, targets, weight, teacher, kd_weight, kd_temperature, logit_standardization)
