"""Latency over cores and machines that are not here: models fitted to what was measured on those that are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from sensai.cluster.cores import deal


@dataclass(frozen=True)
class NetworkModel:
    """One network on so many cores: a part of the time shrinks with them, the rest stays (Amdahl 1967).

    Attributes:
        serial_ms: what stays.
        parallel_ms: what one core takes for the rest.
    """

    serial_ms: float
    parallel_ms: float

    @classmethod
    def fitted(cls, measured: Mapping[int, float]) -> "NetworkModel":
        """The least squares fit to milliseconds measured with so many threads, neither part below zero."""
        threads = np.array(list(measured), np.float64)
        (serial, parallel), _ = nnls(np.stack([np.ones_like(threads), 1 / threads], axis=1), list(measured.values()))
        return cls(float(serial), float(parallel))

    def __call__(self, cores: int) -> float:
        """Milliseconds."""
        return self.serial_ms + self.parallel_ms / cores


@dataclass(frozen=True)
class EnsembleModel:
    """Members dealt to workers, each running its own one after the other; the answer is there when the last is done.

    Attributes:
        member_ms: of each member on one worker.
        overhead_ms: what dealing out and combining take beyond that.
    """

    member_ms: Sequence[float]
    overhead_ms: float

    @classmethod
    def fitted(cls, member_ms: Sequence[float], measured: Mapping[int, float]) -> "EnsembleModel":
        """The overhead is the median of what the ensemble took with so many workers beyond its members, or nothing."""
        beyond = [each - makespan(member_ms, workers) for workers, each in measured.items()]
        return cls(member_ms, max(float(np.median(beyond)), 0.0))

    def __call__(self, workers: int, hop_ms: float = 0.0) -> float:
        """Milliseconds, where the image is sent to workers and their outputs come back in `hop_ms`."""
        return makespan(self.member_ms, workers) + self.overhead_ms + hop_ms


def makespan(member_ms: Sequence[float], workers: int) -> float:
    """Milliseconds until the last of the workers that members are dealt to is done."""
    return max(sum(member_ms[number] for number in hand) for hand in deal(member_ms, workers))


def break_even(one: Callable[[int], float], other: Callable[[int], float], most: int) -> int | None:
    """The fewest cores, of at most so many, from which on one is faster than the other; None: it is not with `most`."""
    faster = [one(cores) < other(cores) for cores in range(1, most + 1)]
    if not faster[-1]:
        return None
    return most - faster[::-1].index(False) + 1 if False in faster else 1
