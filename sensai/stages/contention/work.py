"""Time the work of a process of the experiment."""

import time
from collections.abc import Callable, Iterable, Sequence
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


def one_after_another(works: Sequence[Work]) -> Work:
    """Return the work of doing several works in turn; their seconds and steps add up."""

    def all_of_them(count: int) -> Spent:
        spent = [work(count) for work in works]
        return Spent(
            seconds=sum(each.seconds for each in spent),
            data_seconds=sum(each.data_seconds for each in spent),
            steps=sum(each.steps for each in spent),
        )

    return all_of_them


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
