"""Time base model and ensemble side by side on the same images, each in its fastest runtime."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.stats import quantile_test

from sensai.ensemble import Ensemble
from sensai.runtimes.choice import Timing, fastest, in_turn, measure, open_runtime
from sensai.runtimes.implementations import RUNTIMES, candidates
from sensai.runtimes.prepared import Prepared
from sensai.terminal import waiting

# Each member's runtime has its own threads, which sleep while others are timed.
_MOST_THREADS = 1000
_AUTO = "auto"

Combine = Callable[[list[np.ndarray]], object]


@dataclass(frozen=True)
class Comparison:
    """Milliseconds from raw images to outputs, medians of calls in turn.

    Attributes:
        timings: of `base`, `ensemble` and the largest `member`, the runtimes that were tried.
        base_ms: the base model in its fastest runtime.
        member_ms: each member alone on a machine like this one, in the runtime of `member`. It uses all threads, or one thread
            where all members would have more than a thousand together.
        members_ms: all members one after another, on one thread, in the runtime that is the fastest there for the largest. Each
            finds the caches as the others left them. NaN if the ensemble was left out.
        ensemble_ms: all members in their fastest runtime, and the combination of their outputs; NaN if it was left out.
        threads: the most that base model and ensemble may keep busy.
        intervals: `base` and `ensemble` -> 95 % interval of the median; NaN for fewer than six calls.
    """

    timings: dict[str, list[Timing]]
    base_ms: float
    member_ms: list[float]
    members_ms: float
    ensemble_ms: float
    threads: int
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def chosen(self) -> dict[str, Timing]:
        """Return the fastest runtime of each network."""
        return {network: fastest(timings) for network, timings in self.timings.items()}

    @property
    def overhead(self) -> float:
        """Return the ensemble's time over the time of its members one after another, dealt to the threads without a gap."""
        return self.ensemble_ms * min(self.threads, len(self.member_ms)) / self.members_ms

    def metrics(self) -> dict[str, float]:
        """Return the metrics that `evaluate` logs."""
        slowest = max(self.member_ms)
        return {
            "latency_base_ms": self.base_ms,
            "latency_member_max_ms": slowest,
            "latency_ensemble_ms": self.ensemble_ms,
            "speedup_critical_path": self.base_ms / slowest,
            "speedup_ensemble": self.base_ms / self.ensemble_ms,
            **{f"latency_{network}_low_ms": low for network, (low, _) in self.intervals.items()},
            **{f"latency_{network}_high_ms": high for network, (_, high) in self.intervals.items()},
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return the fields of every timing, with its network."""
        return [{"network": network, **asdict(each)} for network, timings in self.timings.items() for each in timings]


def compare(
    base: Prepared,
    members: Prepared,
    images: np.ndarray,
    combine: Combine | None,
    threads: int,
    *,
    names: Sequence[str] | None = None,
    repeats: int = 30,
) -> Comparison:
    """Find the fastest runtimes, then time those side by side.

    Args:
        base: the base model.
        members: of the ensemble.
        images: the batch, uint8 (N, H, W, C).
        combine: combines the members' outputs; None: the ensemble is not timed.
        threads: the most to keep busy.
        names: the runtimes to choose from; None: those that `auto` tries on a CPU.
        repeats: calls of each.
    """

    def timed(prepared: Prepared, *counts: int) -> list[Timing]:
        return measure(prepared, images, counts, names=names, repeats=repeats)

    largest = max(members.alone(), key=lambda alone: alone.members[0].flops)
    counts = sorted({1, threads})
    # One number of threads after the other: large networks would else take twice the memory.
    timings = {"base": [each for count in counts for each in timed(base, count)]}
    if combine is not None:
        timings["ensemble"] = [each for count in counts for each in timed(members, count)]
    # One thread and all threads are so close that only a direct comparison tells them apart.
    timings["member"] = timed(largest, *(counts if threads * len(members.members) <= _MOST_THREADS else [1]))
    chosen = {network: fastest(each) for network, each in timings.items()}
    with ExitStack() as stack:

        def opened(prepared: Prepared, choice: Timing) -> Callable[[], list[np.ndarray]]:
            return partial(stack.enter_context(open_runtime(choice.runtime, prepared, choice.threads)), images)

        by_itself = [opened(alone, chosen["member"]) for alone in members.alone()]
        calls: dict[str, Callable[[], object]] = {"base": opened(base, chosen["base"])}
        if combine is not None:
            whole = opened(members, chosen["ensemble"])
            single = fastest([each for each in timings["member"] if each.threads == 1])
            in_a_row = by_itself if single is chosen["member"] else [opened(alone, single) for alone in members.alone()]
            calls["ensemble"] = lambda: combine(whole())
            calls["members"] = lambda: [call() for call in in_a_row]
        calls |= {f"member {number}": call for number, call in enumerate(by_itself)}
        seconds = in_turn(calls, repeats)
    medians = {name: float(np.median(each) * 1e3) for name, each in seconds.items()}
    base_ms, members_ms, ensemble_ms = (medians.pop(name, math.nan) for name in ("base", "members", "ensemble"))
    intervals = {name: _median_interval(each * 1e3) for name, each in seconds.items() if name in ("base", "ensemble")}
    return Comparison(timings, base_ms, list(medians.values()), members_ms, ensemble_ms, threads, intervals)


def compare_on_device(
    base: Prepared,
    ensemble: Ensemble,
    prepared: Prepared,
    combine: Combine | None,
    images: np.ndarray,
    device: torch.device,
    runtime: str = _AUTO,
) -> Comparison:
    """Compare as `compare` does, in a runtime or, for `auto`, in the fastest of a device.

    Args:
        base: the base model.
        ensemble: the ensemble.
        prepared: its members.
        combine: combines the members' outputs; None: the ensemble is not timed.
        images: the batch, uint8 (N, C, H, W).
        device: that computes.
        runtime: a name, or `auto`.
    """
    on_gpu = device.type == "cuda"
    names = (runtime,) if runtime != _AUTO else candidates(device.type)
    what = f"opens base model and {len(ensemble.members)} members in {', '.join(names)}, and times them"
    with waiting(what), torch.cuda.device(device) if on_gpu else nullcontext():
        return compare(
            base,
            prepared,
            np.ascontiguousarray(images.transpose(0, 2, 3, 1)),
            combine,
            1 if {RUNTIMES[name].traits["device"] for name in names} == {"cuda"} else torch.get_num_threads(),
            names=names,
        )


def _median_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the median of values (calls,), from their order alone."""
    interval = quantile_test(values, p=0.5).confidence_interval(0.95)
    return float(interval.low), float(interval.high)
