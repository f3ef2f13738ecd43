"""The learning rate stays as it is."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler

from sensai.training.schedules import SCHEDULES


@SCHEDULES.register("constant", "stays at `lr`")
def constant(optimizer: Optimizer) -> LRScheduler:
    """Return a schedule that never changes the rate."""
    return ConstantLR(optimizer, factor=1.0)
