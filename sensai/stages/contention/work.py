"""Time the work of a process of the experiment."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Spent:
    """One pass over images.

    Attributes:
        seconds: that it took.
        data_seconds: the part of these in which no network had a batch to compute with. Workers make their batches in processes
            of their own; there it is the time that making all batches takes by itself.
        steps: batches.
    """

    seconds: float
    data_seconds: float
    steps: int


# A function that makes one pass over the first images, as many as it is given.
Work = Callable[[int], Spent]


def timed(
    batches: Iterable[tuple[Tensor, Tensor]], device: torch.device, step: Callable[[Tensor, Tensor], object]
) -> Spent:
    """Take a step with each batch; return the time that it took, and the part spent waiting for batches."""
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
