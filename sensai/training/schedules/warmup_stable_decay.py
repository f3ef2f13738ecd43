"""The learning rate rises to its peak, stays there, and falls once the end of the training is decided."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from sensai.training.schedules import SCHEDULES

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


@SCHEDULES.register(
    "warmup_stable_decay",
    "rises to `lr` in the first epoch and stays there; falls to zero in the last `decay_epochs`, which a stop rule may begin",
)
def warmup_stable_decay(
    optimizer: "Optimizer", steps_per_epoch: int, decay_start: Callable[[], int], decay_steps: int
) -> "LRScheduler":
    """Return the schedule of Hu et al. 2024 ("MiniCPM") with the "1-sqrt" decay of Haegele et al. 2024.

    Until the decay begins, the rate does not depend on when that will be. So an earlier stop gives the same as a training that
    was configured for as many epochs.
    """
    from torch.optim.lr_scheduler import LambdaLR

    def share_of_peak(step: int) -> float:
        # A training that is not longer than its decay has no warm-up.
        warmup_steps = min(steps_per_epoch, decay_start())
        warmed_up = min((step + 1) / max(warmup_steps, 1), 1.0)
        decayed = min(max(step - decay_start(), 0) / decay_steps, 1.0)
        return warmed_up * (1 - math.sqrt(decayed))

    return LambdaLR(optimizer, share_of_peak)
