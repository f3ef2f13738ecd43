"""What a process of the experiment does, and what it says of it."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Spent:
    """One pass over images.

    Attributes:
        seconds: of the clock.
        data_seconds: of these, those in which no network had a batch to compute with; of workers, which take their batches
            in processes of their own, the time that making all batches takes by itself.
        steps: batches.
    """

    seconds: float
    data_seconds: float
    steps: int


# One pass over the first so many images.
Work = Callable[[int], Spent]


def timed(
    batches: Iterable[tuple[Tensor, Tensor]], device: torch.device, step: Callable[[Tensor, Tensor], object]
) -> Spent:
    """A step with each batch, and how long it took to get them."""
    steps, data_seconds, start = 0, 0.0, time.perf_counter()
    waiting_since = start
    for images, labels in batches:
        data_seconds += time.perf_counter() - waiting_since
        step(images.to(device), labels.to(device))
        steps += 1
        waiting_since = time.perf_counter()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return Spent(time.perf_counter() - start, data_seconds, steps)
