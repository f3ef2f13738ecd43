"""Base model and ensemble on the same images, each in its fastest runtime here, timed side by side."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from sensai.runtimes.choice import Timing, fastest, in_turn, measure, open_runtime
from sensai.runtimes.prepared import Prepared

# Each member's runtime has threads of its own, which are there, asleep, while others are timed.
_MOST_THREADS = 1000

Combine = Callable[[list[np.ndarray]], object]


@dataclass(frozen=True)
class Comparison:
    """Milliseconds from raw images to outputs, medians of calls in turn.

    Attributes:
        timings: of `base`, `ensemble` and the largest `member`, the runtimes that were tried.
        base_ms: the base model in its fastest runtime.
        member_ms: each member in the runtime of `member`, as a machine like this one for each would see it; on one thread where
            on all they would have more than a thousand together.
        members_ms: all of them one after another in the fastest runtime that the largest has on one thread, so that each finds
            in the caches what the others left there; NaN where the ensemble as a whole was left out.
        ensemble_ms: all members in their fastest runtime, and the combination of their outputs; NaN where it was left out.
        threads: how many base model and ensemble might keep busy.
    """

    timings: dict[str, list[Timing]]
    base_ms: float
    member_ms: list[float]
    members_ms: float
    ensemble_ms: float
    threads: int

    @property
    def chosen(self) -> dict[str, Timing]:
        """The fastest of each network's runtimes."""
        return {network: fastest(timings) for network, timings in self.timings.items()}

    @property
    def overhead(self) -> float:
        """The ensemble's time over that of its members one after another, if they were dealt to the threads without a gap."""
        return self.ensemble_ms * min(self.threads, len(self.member_ms)) / self.members_ms

    def rows(self) -> list[dict[str, Any]]:
        """The fields of every timing, with the network that it is of."""
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
        members: those of the ensemble.
        images: the batch, uint8 (N, H, W, C).
        combine: what is done with the members' outputs; None: the ensemble as a whole is not timed.
        threads: how many may be kept busy at once.
        names: the runtimes to choose from; None: those that `auto` tries on a CPU.
        repeats: calls of each.
    """

    def timed(prepared: Prepared, *counts: int) -> list[Timing]:
        return measure(prepared, images, counts, names=names, repeats=repeats)

    largest = max(members.alone(), key=lambda alone: alone.members[0].flops)
    counts = sorted({1, threads})
    # One number of threads after the other, as large networks are not to be in memory twice as often.
    timings = {"base": [each for count in counts for each in timed(base, count)]}
    if combine is not None:
        timings["ensemble"] = [each for count in counts for each in timed(members, count)]
    # So close to each other, on one thread and on all, that only side by side one can tell.
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
    return Comparison(timings, base_ms, list(medians.values()), members_ms, ensemble_ms, threads)
