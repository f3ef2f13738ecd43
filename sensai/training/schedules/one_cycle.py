"""The learning rate rises to its peak and then falls to almost zero."""

from typing import TYPE_CHECKING

from sensai.training.schedules import SCHEDULES

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


@SCHEDULES.register("one_cycle", "rises to `lr` over 30 % of the steps, then falls to almost zero")
def one_cycle(optimizer: "Optimizer", peak_lr: float, steps: int) -> "LRScheduler":
    """Return the one-cycle schedule (Smith & Topin 2018, "Super-Convergence") without a cycle of the momentum."""
    from torch.optim.lr_scheduler import OneCycleLR

    # The schedule raises an error at the step after its last one, and the last batch makes such a step.
    return OneCycleLR(optimizer, max_lr=peak_lr, total_steps=steps + 1, cycle_momentum=False)
