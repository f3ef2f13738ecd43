"""All members learn together from the labels: the loss of `bce` over all K classes."""

from sensai.training.losses import LOSSES
from sensai.training.losses.bce import bce

LOSSES.register("joint", "all members learn together, by one cross entropy over the logits of all classes", joint=True)(
    bce
)
