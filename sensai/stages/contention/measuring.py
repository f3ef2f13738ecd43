"""Measure trainings and scorings in four ways: in turn, at once as naive processes, the same with pinned threads, and together
by the engine.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import cpu_count
from tqdm import tqdm

from sensai.stages.contention.job import load_labels
from sensai.stages.contention.started_together import Measured, at_once

TASKS = ("training", "scoring")
WAYS = ("in_turn", "naive", "pinned", "engine")


def measure(folder: Path, task: str, counts: Sequence[int]) -> pd.DataFrame:
    """Measure the four ways for each number of trainings or scorings.

    In turn, at once and pinned run the same script; pinned, the cores are dealt out to the processes. So these differ only by
    contention and threads. With N = 1, in turn and at once are the same and measured once. The engine trains in its workers.
    Its scoring is one pass in one process, since that serves every class.

    Args:
        folder: of a saved job with at least `max(counts)` members.
        task: one of `TASKS`.
        counts: how many at once, N.

    Returns:
        One row a count and way: `task`, `way`, `n`, `images` that each sees, `images_per_s` (N x images / seconds, the start
        left out), `start_s` (in turn: the slowest of all), `step_ms`, `data_share`, `peak_mib`, `threads` as in `Measured`,
        `cores` that this process may use.

    Raises:
        InputError: processes failed; says which.
    """
    images, rows = len(load_labels(folder)), []
    with tqdm(total=max(counts) + 3 * len(counts) - (1 in counts), desc=f"contention: {task}") as bar:

        def run(script: str, groups: list[list[int]], threads: int | None = None) -> Measured:
            measured = at_once(folder, script, task, groups, threads)
            bar.update()
            return measured

        # The times of N in turn are those of the first N.
        alone = [run("naive", [[number]]) for number in range(max(counts))]
        for count in counts:
            numbers = list(range(count))
            each = [[number] for number in numbers]
            measured = {
                "in_turn": _in_turn(alone[:count]),
                "naive": run("naive", each) if count > 1 else alone[0],
                "pinned": run("naive", each, max(cpu_count() // count, 1)),
                "engine": run("engine", [numbers]),
            }
            rows += [_row(task, way, count, images, measured[way]) for way in WAYS]
    return pd.DataFrame(rows)


def _in_turn(alone: Sequence[Measured]) -> Measured:
    return Measured(
        start_s=max(each.start_s for each in alone),
        seconds=sum(each.seconds for each in alone),
        step_ms=float(np.mean([each.step_ms for each in alone])),
        data_share=float(np.mean([each.data_share for each in alone])),
        peak_mib=max(each.peak_mib for each in alone),
        threads=max(each.threads for each in alone),
    )


def _row(task: str, way: str, count: int, images: int, measured: Measured) -> dict[str, object]:
    values = asdict(measured)
    speed = count * images / values.pop("seconds")
    return {
        "task": task,
        "way": way,
        "n": count,
        "images": images,
        "images_per_s": speed,
        **values,
        "cores": cpu_count(),
    }
