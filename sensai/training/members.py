"""Retraining of all members of an ensemble, dealt to workers. K classes."""

import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from sensai.data.dataset import Dataset
from sensai.ensemble import MANIFEST, Ensemble, save_ensemble
from sensai.errors import InputError
from sensai.models.storage import save_network
from sensai.training.backends.local import run_locally
from sensai.training.checkpoints import Progress
from sensai.training.member_trainer import Recipe
from sensai.training.rendezvous import Rendezvous
from sensai.training.training_loop import Budget
from sensai.training.workers import END, START, TEACHER, Lesson, Stream, WorkerJob, WorkerLostError, member_checkpoints

# Number of the member, epoch, metrics.
OnEpoch = Callable[[int, int, dict[str, float]], None]
RunWorkers = Callable[[Sequence[WorkerJob]], dict[int, str]]

_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class Workers:
    """Who trains which members.

    Attributes:
        members: of each worker, the numbers of its members (see `cores.deal`).
        devices: of each worker, where it computes.
        threads: of every library in a worker.
        run: what runs the workers' jobs.
        loopback: all workers are on this machine.
    """

    members: Sequence[Sequence[int]]
    devices: Sequence[torch.device]
    threads: int
    run: RunWorkers = run_locally
    loopback: bool = True


def retrain_members(
    ensemble: Ensemble,
    dataset: Dataset,
    recipe: Recipe,
    stream: Stream,
    lesson: Lesson,
    workers: Workers,
    *,
    teacher: nn.Module | None,
    folder: Path,
    budget: Budget | None = None,
    on_epoch: OnEpoch,
    why_end: Callable[[], BaseException | None] = lambda: None,
) -> list[Progress]:
    """Train all members; each ends with the weights of its best epoch. Returns the progress of each.

    The result does not depend on the workers, except for the order in which threads and processes add numbers up, and for a
    budget, of which each worker gets its part.

    Args:
        ensemble: its members, as they were cut, get the weights.
        dataset: trained on `train`, judged on `val`.
        recipe: how they are trained; with a joint loss the stop is that of all together, by the accuracy of all K classes.
        stream: the batches.
        lesson: what they learn.
        workers: where.
        teacher: the base model; for the losses with `kd`.
        folder: of the files that are written after each epoch and gone on from; all workers see it.
        budget: what all members together may take.
        on_epoch: called with the member's number, the epoch and its metrics, in a thread of its own.
        why_end: asked in that thread what to raise after the current epoch, if anything.

    Raises:
        InputError: members failed twice; they are named, and all others are trained to their end (those that learn jointly
            fail together). Or the budget is too small.
    """
    _write_start(ensemble, teacher, folder)
    jobs = [
        WorkerJob(folder, tuple(members), dataset, recipe, stream, lesson, device, workers.threads, part)
        for members, device, part in zip(
            workers.members, workers.devices, _parts(budget, workers.members, lesson.joint), strict=True
        )
    ]
    # One that was killed may have left it.
    (folder / END).unlink(missing_ok=True)
    with _watch_progress(folder, len(ensemble.members), on_epoch, why_end):
        failures = _run_twice(jobs, workers, ensemble)
    if (folder / END).exists() and (reason := why_end()) is not None:
        raise reason
    if failures:
        raise InputError("; ".join(f"member {_names(ensemble, n)}: {reason}" for n, reason in sorted(failures.items())))
    return [
        member_checkpoints(folder, number).load_best(member.network) for number, member in enumerate(ensemble.members)
    ]


def _write_start(ensemble: Ensemble, teacher: nn.Module | None, folder: Path) -> None:
    # The manifest is written last, so where it is all else is.
    if (folder / START / MANIFEST).exists():
        return
    if teacher is not None:
        save_network(teacher, ensemble.spec, folder / TEACHER)
    save_ensemble(ensemble, folder / START)


def _parts(budget: Budget | None, members: Sequence[Sequence[int]], joint: bool) -> list[Budget | None]:
    """The budget of each worker: the clock runs for all of them at once, epochs are dealt like members.

    Raises:
        InputError: some would not be trained at all.
    """
    if budget is None or budget.epochs is None:
        return [budget] * len(members)
    count = sum(len(worker) for worker in members)
    if budget.epochs < count:
        raise InputError(f"budget='{budget.epochs}epochs': must be at least an epoch for each of {count} members")
    if joint:
        epochs = [budget.epochs // count * len(worker) for worker in members]
    else:
        ends = [budget.epochs * sum(len(worker) for worker in members[: n + 1]) // count for n in range(len(members))]
        epochs = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    return [replace(budget, epochs=each) for each in epochs]


def _run_twice(jobs: Sequence[WorkerJob], workers: Workers, ensemble: Ensemble) -> dict[int, str]:
    """Run all workers; where one is lost, all go on once more from their last checkpoints."""
    try:
        return workers.run(_with_rendezvous(jobs, workers))
    except WorkerLostError:
        pass
    try:
        return workers.run(_with_rendezvous(jobs, workers))
    except WorkerLostError as error:
        members = "; ".join(", ".join(_names(ensemble, number) for number in job.members) for job in jobs)
        raise InputError(
            f"jobs={len(jobs)}: a worker, of those with the members {members}, was lost twice ({error}); fewer need less memory"
        ) from error


def _with_rendezvous(jobs: Sequence[WorkerJob], workers: Workers) -> list[WorkerJob]:
    """The jobs with all that learn jointly in the same epoch, and a new place to meet where they are in several workers."""
    if not jobs[0].lesson.joint:
        return list(jobs)
    checkpoints = [member_checkpoints(job.folder, number) for job in jobs for number in job.members]
    common = min(len(progress.history) if (progress := each.progress()) else 0 for each in checkpoints)
    for each in checkpoints:
        each.rewind(common)
    if len(jobs) == 1:
        return list(jobs)
    rendezvous = jobs[0].folder / "rendezvous"
    shutil.rmtree(rendezvous, ignore_errors=True)
    file = rendezvous / uuid.uuid4().hex
    return [
        replace(job, rendezvous=Rendezvous(file, rank, len(jobs), workers.loopback)) for rank, job in enumerate(jobs)
    ]


def _names(ensemble: Ensemble, number: int) -> str:
    return "+".join(ensemble.class_names[label] for label in ensemble.members[number].classes)


@contextmanager
def _watch_progress(
    folder: Path, members: int, on_epoch: OnEpoch, why_end: Callable[[], BaseException | None]
) -> Iterator[None]:
    """While the block runs, a thread tells of every epoch that appears in the members' checkpoints, and ends the workers."""
    epochs = [0] * members
    ended, errors = threading.Event(), []

    def look() -> None:
        for number in range(members):
            if (progress := member_checkpoints(folder, number).progress(more_than=epochs[number])) is not None:
                for epoch in range(epochs[number], len(progress.history)):
                    on_epoch(number, epoch, progress.history[epoch])
                epochs[number] = len(progress.history)
        if why_end() is not None:
            (folder / END).touch()

    def keep_looking() -> None:
        try:
            while not ended.wait(_SECONDS_BETWEEN_LOOKS):
                look()
            look()
        except Exception as error:
            errors.append(error)
            # Nobody would be told of what is trained from here on.
            (folder / END).touch()

    thread = threading.Thread(target=keep_looking)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if errors:
        raise errors[0]
