"""Retraining of all members of an ensemble, dealt to slots. K classes."""

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
from sensai.training.exchange import Meeting
from sensai.training.fitting import Budget
from sensai.training.slots import END, START, TEACHER, Lesson, SlotJob, SlotLostError, Stream, member_checkpoints
from sensai.training.trainee import Recipe

# Number of the member, epoch, metrics.
OnEpoch = Callable[[int, int, dict[str, float]], None]
RunSlots = Callable[[Sequence[SlotJob]], dict[int, str]]

_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class Slots:
    """Who trains which members.

    Attributes:
        members: of each slot, the numbers of its members (see `cores.deal`).
        devices: of each slot, where it computes.
        threads: of every library in a slot.
        run: what runs the slots' jobs.
        loopback: all slots are on this machine.
    """

    members: Sequence[Sequence[int]]
    devices: Sequence[torch.device]
    threads: int
    run: RunSlots = run_locally
    loopback: bool = True


def retrain_members(
    ensemble: Ensemble,
    dataset: Dataset,
    recipe: Recipe,
    stream: Stream,
    lesson: Lesson,
    slots: Slots,
    *,
    teacher: nn.Module | None,
    folder: Path,
    budget: Budget | None = None,
    on_epoch: OnEpoch,
    why_end: Callable[[], BaseException | None] = lambda: None,
) -> list[Progress]:
    """Train all members; each ends with the weights of its best epoch. Returns the progress of each.

    The result does not depend on the slots, but for the order in which threads and processes add numbers up, and for a budget,
    of which each slot gets its part.

    Args:
        ensemble: its members, as they were cut, get the weights.
        dataset: trained on `train`, judged on `val`.
        recipe: how they are trained; with a joint loss the stop is that of all together, by the accuracy of all K classes.
        stream: the batches.
        lesson: what they learn.
        slots: where.
        teacher: the base model; for the losses with `kd`.
        folder: of the files that are written after each epoch and gone on from; all slots see it.
        budget: what all members together may take.
        on_epoch: called with the member's number, the epoch and its metrics, in a thread of its own.
        why_end: asked in that thread what to raise after the current epoch, if anything.

    Raises:
        InputError: members failed twice; they are named, and all others are trained to their end (those that learn jointly
            fail together). Or the budget is too small.
    """
    _write_start(ensemble, teacher, folder)
    jobs = [
        SlotJob(folder, tuple(members), dataset, recipe, stream, lesson, device, slots.threads, part)
        for members, device, part in zip(
            slots.members, slots.devices, _parts(budget, slots.members, lesson.joint), strict=True
        )
    ]
    # One that was killed may have left it.
    (folder / END).unlink(missing_ok=True)
    with _told(folder, len(ensemble.members), on_epoch, why_end):
        failures = _run_twice(jobs, slots, ensemble)
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
    """The budget of each slot: the clock runs for all of them at once, epochs are dealt like members.

    Raises:
        InputError: some would not be trained at all.
    """
    if budget is None or budget.epochs is None:
        return [budget] * len(members)
    count = sum(len(slot) for slot in members)
    if budget.epochs < count:
        raise InputError(f"budget='{budget.epochs}epochs': must be at least an epoch for each of {count} members")
    if joint:
        epochs = [budget.epochs // count * len(slot) for slot in members]
    else:
        ends = [budget.epochs * sum(len(slot) for slot in members[: n + 1]) // count for n in range(len(members))]
        epochs = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    return [replace(budget, epochs=each) for each in epochs]


def _run_twice(jobs: Sequence[SlotJob], slots: Slots, ensemble: Ensemble) -> dict[int, str]:
    """Run all slots; where one is lost, all go on once more from their last checkpoints."""
    try:
        return slots.run(_met(jobs, slots))
    except SlotLostError:
        pass
    try:
        return slots.run(_met(jobs, slots))
    except SlotLostError as error:
        members = "; ".join(", ".join(_names(ensemble, number) for number in job.members) for job in jobs)
        raise InputError(
            f"jobs={len(jobs)}: a slot, of those with the members {members}, was lost twice ({error}); fewer need less memory"
        ) from error


def _met(jobs: Sequence[SlotJob], slots: Slots) -> list[SlotJob]:
    """The jobs with all that learn jointly in the same epoch, and a new place to meet where they are in several slots."""
    if not jobs[0].lesson.joint:
        return list(jobs)
    checkpoints = [member_checkpoints(job.folder, number) for job in jobs for number in job.members]
    common = min(len(progress.history) if (progress := each.progress()) else 0 for each in checkpoints)
    for each in checkpoints:
        each.rewind(common)
    if len(jobs) == 1:
        return list(jobs)
    meetings = jobs[0].folder / "meetings"
    shutil.rmtree(meetings, ignore_errors=True)
    file = meetings / uuid.uuid4().hex
    return [replace(job, meeting=Meeting(file, rank, len(jobs), slots.loopback)) for rank, job in enumerate(jobs)]


def _names(ensemble: Ensemble, number: int) -> str:
    return "+".join(ensemble.class_names[label] for label in ensemble.members[number].classes)


@contextmanager
def _told(folder: Path, members: int, on_epoch: OnEpoch, why_end: Callable[[], BaseException | None]) -> Iterator[None]:
    """While the block runs, a thread tells of every epoch that appears in the members' checkpoints, and ends the slots."""
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
