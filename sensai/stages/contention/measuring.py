"""Measure trainings and scorings in several ways: in turn, at once as naive processes, the same with pinned threads, and
together by the engine.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import cpu_count
from tqdm import tqdm

from sensai.files import reading, whole_file
from sensai.stages.contention.job import is_decoded, load_job, load_labels
from sensai.stages.contention.started_together import Measured, at_once

WAYS = ("in_turn", "naive", "pinned", "engine")
# Image files that are also decoded to an array are measured in this way too.
STREAMED = "streamed"


class Processes(NamedTuple):
    """The processes that run at once in one setting, as `at_once` takes them.

    Attributes:
        script: `naive`, `engine` or `streamed`.
        task: `training` or `scoring`.
        groups: the numbers of each process's members.
        threads: of each process's libraries; None: the default.
    """

    script: str
    task: str
    groups: tuple[tuple[int, ...], ...]
    threads: int | None = None


def measure_repeats(folder: Path, tasks: Sequence[str], counts: Sequence[int], repeats: int) -> pd.DataFrame:
    """Measure each setting `repeats` times; repeats that an earlier process finished are read from the folder.

    Args:
        folder: as of `measure`; each finished repeat is kept there.
        tasks: as of `measure`.
        counts: likewise.
        repeats: how many.

    Returns:
        The rows of `measure` of each repeat, below each other.

    Raises:
        InputError: processes failed; says which.
        DamagedError: the file of a repeat is broken.
        StorageError: the file of a repeat cannot be written.
    """
    tables = []
    for repeat in range(repeats):
        path = folder / f"repeat_{repeat}.parquet"
        if not path.exists():
            table = measure(folder, tasks, counts, repeat)
            with whole_file(path) as temporary:
                table.to_parquet(temporary)
        with reading(f"{str(path)!r}", "remove the file: this repeat is measured again"):
            tables.append(pd.read_parquet(path))
    return pd.concat(tables, ignore_index=True)


def measure(folder: Path, tasks: Sequence[str], counts: Sequence[int], repeat: int = 0) -> pd.DataFrame:
    """Measure each setting once: a task, a number of trainings or scorings, and a way.

    In turn, at once and pinned run the same script; pinned, the cores are dealt out to the processes. So these differ only by
    contention and threads. With N = 1, in turn and at once are the same and measured once. The engine trains in its workers.
    Its scoring is one pass in one process, since that serves every class.

    Args:
        folder: of a saved job with at least `max(counts)` members.
        tasks: `training`, `scoring` or both.
        counts: how many at once, N.
        repeat: its number. It decides the order, so that a slow spell of the machine hits other settings in each repeat.

    Returns:
        One row a setting: `repeat`, `task`, `way`, `n`, `images` that each sees, `images_per_s` (N x images / seconds, the
        start left out), `start_s`, `step_ms`, `data_share`, `peak_mib`, `threads` as in `Measured`, `cores` that this process
        may use.

    Raises:
        InputError: processes failed; says which.
    """
    settings = [(task, way, count) for task in tasks for count in counts for way in ways_of(folder)]
    processes = [processes_of(*setting) for setting in settings]
    bar = tqdm(in_order_of(repeat, processes), desc=f"contention, repeat {repeat + 1}")
    measured = {each: at_once(folder, *each) for each in bar}
    images = len(load_labels(folder))
    rows = [_row(setting, images, measured[each]) for setting, each in zip(settings, processes, strict=True)]
    return pd.DataFrame(rows).assign(repeat=repeat)[["repeat", *rows[0]]]


def in_order_of(repeat: int, processes: Sequence[Processes]) -> list[Processes]:
    """Return the distinct ones in random order; the number of the repeat is the seed."""
    distinct = list(dict.fromkeys(processes))
    return [distinct[place] for place in np.random.default_rng(repeat).permutation(len(distinct))]


def ways_of(folder: Path) -> tuple[str, ...]:
    """Return the ways that a saved job is measured in."""
    return (*WAYS, STREAMED) if load_job(folder).files and is_decoded(folder) else WAYS


def processes_of(task: str, way: str, count: int) -> Processes:
    """Return the processes that do so many trainings or scorings in a way."""
    together = (tuple(range(count)),)
    each = tuple((number,) for number in range(count))
    if way == "in_turn":
        return Processes("naive", task, together)
    if way == "naive":
        return Processes("naive", task, each)
    if way == "pinned":
        return Processes("naive", task, each, max(cpu_count() // count, 1))
    return Processes(way, task, together)


def _row(setting: tuple[str, str, int], images: int, measured: Measured) -> dict[str, object]:
    task, way, count = setting
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
