"""The average of a network's weights over the steps of its training."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

WeightAveraging = Literal["none", "ema"]


def exponential_average(network: nn.Module, decay: float) -> AveragedModel:
    """Return the exponential moving average of a network's weights; `update_parameters` after each step keeps it.

    The average after the first step is the weights of that step; later it is `decay` times itself plus (1 - `decay`) times the
    weights of the step. The running statistics of batch norms are averaged likewise, so no pass over the training images is
    needed to estimate them (`update_bn`).

    Args:
        network: it is copied, in its memory format.
        decay: in (0, 1).
    """
    averaged = get_ema_multi_avg_fn(decay)

    def update(averages: Sequence[Tensor], values: Sequence[Tensor], count: Tensor | int) -> None:
        """Update tensors of one type."""
        if averages[0].is_floating_point():
            averaged(averages, values, count)
            return
        # The average of whole numbers, such as counts and indices, would be rounded to others.
        for average, value in zip(averages, values, strict=True):
            average.copy_(value)

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)
