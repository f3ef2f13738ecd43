"""All members learn together from the labels and the base model: the loss of `kd` over all K classes."""

from sensai.training.losses import LOSSES
from sensai.training.losses.kd import kd

LOSSES.register("joint_kd", "as joint, and kd_weight of the target is the base model's probability", joint=True)(kd)
