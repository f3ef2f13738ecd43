"""Open runtimes by name, and find the fastest on this machine."""

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import TypeVar

import numpy as np

from sensai.errors import InputError, suggestion
from sensai.runtimes.implementations import RUNTIMES, candidates, why_missing
from sensai.runtimes.prepared import Prepared
from sensai.runtimes.runtime import Runtime

Name = TypeVar("Name", bound=Hashable)

TOLERANCE = 1e-5
_WARM_UPS = 3
_SETTLED_CALLS, _SETTLED_SECONDS = 4, 0.005


@dataclass(frozen=True)
class Timing:
    """The times of one runtime on one batch; NaN where it could not be opened.

    Attributes:
        runtime: its name.
        threads: how many it may keep busy.
        median_ms: milliseconds from raw images to the outputs of all members.
        p95_ms: what 95 % of the calls stay below.
        error: largest difference from the networks as they are, relative to max(1, largest output).
        why_not: why it may not be chosen; empty where it may.
    """

    runtime: str
    threads: int
    median_ms: float = math.nan
    p95_ms: float = math.nan
    error: float = math.nan
    why_not: str = ""


def open_runtime(name: str, prepared: Prepared, threads: int) -> Runtime:
    """Return a runtime by its name, opened.

    Raises:
        InputError: there is none of that name, or it cannot run here.
    """
    check_runtime(name)
    runtime: Runtime = RUNTIMES[name](SimpleNamespace(prepared=prepared, threads=threads))
    return runtime


def check_runtime(name: str) -> None:
    """Refuse a runtime that this machine does not have.

    Raises:
        InputError: there is none of that name, or it cannot run here.
    """
    if name not in RUNTIMES:
        raise InputError(f"runtime={name!r}: is no runtime; {suggestion(name, RUNTIMES.names)}")
    if why := why_missing(name):
        raise InputError(f"runtime={name!r}: {why}")


def measure(
    prepared: Prepared,
    images: np.ndarray,
    counts: Sequence[int],
    *,
    names: Sequence[str] | None = None,
    repeats: int = 30,
) -> list[Timing]:
    """Time runtimes side by side, each on several numbers of threads.

    Args:
        prepared: what they run.
        images: the batch, uint8 (N, H, W, C).
        counts: how many threads each may keep busy.
        names: which; None: those that `auto` tries on a CPU.
        repeats: timed calls of each, after some that warm up.

    Returns:
        One row a number of threads and runtime, in the order of `counts` and `names`.
    """
    names = candidates("cpu") if names is None else names
    expected = [member.eager(prepared.normalised(images)) for member in prepared.members]
    missing = {name: why for name in names if (why := why_missing(name))}
    with ExitStack() as stack:
        running = {
            (name, count): stack.enter_context(open_runtime(name, prepared, count))
            for count in counts
            for name in names
            if name not in missing
        }
        errors = {key: largest_error(runtime(images), expected) for key, runtime in running.items()}
        seconds = in_turn({key: partial(runtime, images) for key, runtime in running.items()}, repeats)
    rows = {key: _timing(*key, seconds[key], errors[key]) for key in running}
    rows |= {(name, count): Timing(name, count, why_not=why) for name, why in missing.items() for count in counts}
    return [rows[name, count] for count in counts for name in names]


def fastest(timings: Sequence[Timing]) -> Timing:
    """Return the one of the smallest median among those that may be chosen.

    Raises:
        InputError: none may be.
    """
    able = [timing for timing in timings if not timing.why_not]
    if not able:
        raise InputError("runtime: " + "; ".join(f"{timing.runtime}: {timing.why_not}" for timing in timings))
    return min(able, key=lambda timing: timing.median_ms)


def in_turn(
    calls: Mapping[Name, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[Name, np.ndarray]:
    """Return seconds (repeats,) of each call by a clock.

    The calls take turns, so that other load of the machine slows all alike. Each is settled before it is timed: it then finds
    the caches as its own calls leave them, as in a stream of images that come one at a time (the single-stream scenario of
    Reddi et al. 2020, MLPerf inference benchmark).
    """
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    for _ in range(_WARM_UPS + repeats):
        for name, call in calls.items():
            _settle(call)
            start = clock()
            call()
            seconds[name].append(clock() - start)
    return {name: np.array(each[_WARM_UPS:]) for name, each in seconds.items()}


def _settle(call: Callable[[], object]) -> None:
    """Call up to four times, until 5 ms have passed, so that caches and threads are as where nothing else runs."""
    until = time.perf_counter() + _SETTLED_SECONDS
    for _ in range(_SETTLED_CALLS):
        call()
        if time.perf_counter() > until:
            return


def _timing(name: str, threads: int, seconds: np.ndarray, error: float) -> Timing:
    median, p95 = np.percentile(seconds * 1e3, [50, 95])
    why = f"its answers differ by {error:.2g}" if error > TOLERANCE else ""
    return Timing(name, threads, float(median), float(p95), error, why)


def largest_error(outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Return the largest error of members' outputs (N, outputs), relative to max(1, largest expected output)."""
    return max(
        float(np.abs(own - other).max() / max(1.0, np.abs(other).max()))
        for own, other in zip(outputs, expected, strict=True)
    )
