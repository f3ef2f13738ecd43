"""Workers as Ray tasks. A worker whose node is lost runs again on another node, from its last checkpoints."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from sensai.cluster.nodes import room
from sensai.cluster.ray_cluster import RayCluster
from sensai.errors import InputError
from sensai.training.workers import WorkerJob, WorkerLostError, run_worker

_RETRIES = 3
_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_TO_FAIL = 10.0
_SECONDS_TO_END = 30.0


def run_on_ray(cluster: RayCluster, jobs: Sequence[WorkerJob]) -> dict[int, str]:
    """Run workers side by side as far as there is room; workers that train together all run at once.

    Returns:
        Member -> why it failed twice.

    Raises:
        WorkerLostError: a worker was lost that trains with others, or Ray has tried it several times; the others have been
            ended too.
        InputError: there is no room for workers that train together.
    """
    _store_mapped_arrays()
    # All jobs share one data set, which is stored once if they are stored together.
    stored = ray.put(list(jobs))
    start = partial(_start, stored, len(jobs), num_cpus=jobs[0].threads, num_gpus=int(_on_gpu(jobs[0])))
    if not jobs[0].config.objective.joint:
        return _results(start(max_retries=_RETRIES))
    # Workers that train together must first go back to a common epoch, so Ray does not restart a single one.
    with _reserved(cluster, jobs) as strategy:
        return _results(start(max_retries=0, scheduling_strategy=strategy))


@contextmanager
def _reserved(cluster: RayCluster, jobs: Sequence[WorkerJob]) -> Iterator[PlacementGroupSchedulingStrategy]:
    """Reserve places for all jobs at once: a part of them would wait for the others in vain."""
    place = {"CPU": jobs[0].threads} | ({"GPU": 1} if _on_gpu(jobs[0]) else {})
    group = placement_group([place] * len(jobs))
    try:
        while not group.wait(_SECONDS_BETWEEN_LOOKS):
            _check_room(cluster, jobs)
        yield PlacementGroupSchedulingStrategy(group)
    finally:
        remove_placement_group(group)


def _check_room(cluster: RayCluster, jobs: Sequence[WorkerJob]) -> None:
    """Raise where nodes are missing; other work may still make room."""
    available = room(cluster.nodes, jobs[0].threads, _on_gpu(jobs[0]))
    if available < len(jobs):
        raise InputError(
            f"jobs={len(jobs)}: loss={jobs[0].config.objective.loss} needs all workers at once, and the Ray cluster has room "
            f"for {available} of {jobs[0].threads} threads"
        )


def _run_numbered(jobs: Sequence[WorkerJob], number: int, folder: str) -> dict[int, str]:
    # Relative paths are relative to the folder of the driver.
    with suppress(FileNotFoundError):
        os.chdir(folder)
    return run_worker(jobs[number])


def _start(jobs: "ray.ObjectRef[list[WorkerJob]]", count: int, **options: Any) -> list["ray.ObjectRef[dict[int, str]]"]:
    task = ray.remote(_run_numbered).options(**options)
    return [task.remote(jobs, number, os.getcwd()) for number in range(count)]


def _results(tasks: list["ray.ObjectRef[dict[int, str]]"]) -> dict[int, str]:
    """Return the results of all tasks; as soon as one fails, the others are ended."""
    try:
        waiting = tasks
        while waiting:
            done, waiting = ray.wait(waiting)
            ray.get(done)
        return {number: reason for failures in ray.get(tasks) for number, reason in failures.items()}
    except RayTaskError as error:
        _end(tasks)
        # The cause is the error of the task, as a process of this machine would raise it.
        raise error.cause from error
    except RayError as error:
        _end(tasks)
        raise WorkerLostError(" ".join(str(error).split())) from error


def _end(tasks: list["ray.ObjectRef[dict[int, str]]"]) -> None:
    """End all tasks; no checkpoint is written after that."""
    # Workers that trained with a lost one fail by themselves. Ray 2.60 ends this process if a task is cancelled while it ends.
    _, running = ray.wait(tasks, num_returns=len(tasks), timeout=_SECONDS_TO_FAIL)
    for task in running:
        ray.cancel(task, force=True)
    ray.wait(tasks, num_returns=len(tasks), timeout=_SECONDS_TO_END)


def _on_gpu(job: WorkerJob) -> bool:
    return job.device.type == "cuda"


def _store_mapped_arrays() -> None:
    """Let Ray store mapped arrays like others, which tasks read without a copy."""
    ray.util.register_serializer(np.memmap, serializer=np.asarray, deserializer=lambda array: array)
