"""Models of latency for more cores and machines than there are, fitted to measurements on those at hand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from sensai.cluster.cores import deal


@dataclass(frozen=True)
class NetworkModel:
    """The latency of one network over cores: a part of the time shrinks with them, the rest stays (Amdahl 1967).

    Attributes:
        serial_ms: the part that more cores do not shorten.
        parallel_ms: the rest, on one core.
    """

    serial_ms: float
    parallel_ms: float

    @classmethod
    def fitted(cls, measured: Mapping[int, float]) -> "NetworkModel":
        """Return the least squares fit to threads -> milliseconds. Neither part is negative."""
        threads = np.array(list(measured), np.float64)
        (serial, parallel), _ = nnls(np.stack([np.ones_like(threads), 1 / threads], axis=1), list(measured.values()))
        return cls(float(serial), float(parallel))

    def __call__(self, cores: int) -> float:
        """Return the milliseconds on so many cores."""
        return self.serial_ms + self.parallel_ms / cores


@dataclass(frozen=True)
class EnsembleModel:
    """The latency of an ensemble over workers: each runs its members in turn, and the last to finish decides.

    Attributes:
        member_ms: of each member on one worker.
        overhead_ms: the time for dealing out the image and combining the outputs.
    """

    member_ms: Sequence[float]
    overhead_ms: float

    @classmethod
    def fitted(cls, member_ms: Sequence[float], measured: Mapping[int, float]) -> "EnsembleModel":
        """Return the model whose overhead is the median of measured - predicted time over the workers, at least 0."""
        beyond = [each - makespan(member_ms, workers) for workers, each in measured.items()]
        return cls(member_ms, max(float(np.median(beyond)), 0.0))

    def __call__(self, workers: int, hop_ms: float = 0.0) -> float:
        """Return the milliseconds on so many workers. The image and the outputs travel to them and back in `hop_ms`."""
        return makespan(self.member_ms, workers) + self.overhead_ms + hop_ms


def makespan(member_ms: Sequence[float], workers: int) -> float:
    """Return the milliseconds until the last worker has run its members."""
    return max(sum(member_ms[number] for number in share) for share in deal(member_ms, workers))


def break_even(one: Callable[[int], float], other: Callable[[int], float], most: int) -> int | None:
    """Return the smallest number of cores from which on `one` is faster than `other`, up to `most`.

    None means that `one` is not faster on `most` cores.
    """
    faster = [one(cores) < other(cores) for cores in range(1, most + 1)]
    if not faster[-1]:
        return None
    return most - faster[::-1].index(False) + 1 if False in faster else 1
