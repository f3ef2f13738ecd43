"""Training of all members of an ensemble, dealt to workers. K classes."""

import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from sensai.data.transforms import CHANNELS_OF_AUTO_AUGMENT
from sensai.ensemble import MANIFEST, Ensemble, save_ensemble
from sensai.errors import InputError
from sensai.models.storage import save_network
from sensai.training.backends.local import run_locally
from sensai.training.checkpoints import TrainingHistory
from sensai.training.rendezvous import Rendezvous
from sensai.training.training_config import Budget, TrainingConfig, TrainingData
from sensai.training.workers import END, START, TEACHER, WorkerJob, WorkerLostError, member_checkpoints

# Number of the member, epoch, metrics.
OnEpoch = Callable[[int, int, dict[str, float]], None]
RunWorkers = Callable[[Sequence[WorkerJob]], dict[int, str]]

_SECONDS_BETWEEN_LOOKS = 0.5
# Two standardised logits are always 1 and -1, divided by the square root of 2.
_FEWEST_STANDARDIZED = 3


@dataclass(frozen=True)
class Workers:
    """The workers of a training, and the members of each.

    Attributes:
        members: of each worker, the numbers of its members (see `cores.deal`).
        devices: of each worker.
        threads: of every library in a worker.
        run: runs the workers' jobs.
        loopback: all workers are on this machine.
    """

    members: Sequence[Sequence[int]]
    devices: Sequence[torch.device]
    threads: int
    run: RunWorkers = run_locally
    loopback: bool = True


def retrain_members(
    ensemble: Ensemble,
    dataset: TrainingData,
    config: TrainingConfig,
    workers: Workers,
    *,
    teacher: nn.Module | None,
    folder: Path,
    on_epoch: OnEpoch,
    why_end: Callable[[], BaseException | None] = lambda: None,
) -> list[TrainingHistory]:
    """Train all members; each ends with the weights of its best epoch.

    The result does not depend on the workers, except for the order in which threads and processes add numbers up, and for a
    budget, of which each worker gets its part.

    Args:
        ensemble: its members, as they were cut, get the weights.
        dataset: trained on `train`, judged on `val`.
        config: of the training. With a joint loss all members stop together, by the accuracy of all K classes.
        workers: that train.
        teacher: the base model, for losses that use a teacher.
        folder: of the files that are written after each epoch and read on resume; all workers see it.
        on_epoch: called with the member's number, the epoch and its metrics, in a thread of its own.
        why_end: asked in that thread for an exception to raise after the current epoch.

    Returns:
        The history of each member.

    Raises:
        InputError: members failed twice; the message names them, and all others are trained to their end (members that learn
            together fail together). Or the budget is too small, or a part of the configuration means nothing for these members
            or images.
    """
    _check(ensemble, dataset, config)
    _write_start(ensemble, teacher, folder)
    budgets = _parts(config.budget, workers.members, config.objective.joint)
    jobs = [
        WorkerJob(
            folder,
            tuple(members),
            dataset,
            replace(config, budget=budget),
            device,
            workers.threads,
            network=ensemble.spec.network,
        )
        for members, device, budget in zip(workers.members, workers.devices, budgets, strict=True)
    ]
    # A killed training may have left the file.
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


def _check(ensemble: Ensemble, dataset: TrainingData, config: TrainingConfig) -> None:
    """Refuse what means nothing for these members or images.

    Raises:
        InputError: names the parameter.
    """
    channels = dataset.image_shape[0]
    if config.batches.auto_augment != "none" and channels not in CHANNELS_OF_AUTO_AUGMENT:
        policy = config.batches.auto_augment
        raise InputError(f"auto_augment={policy!r}: takes images of 1 or 3 channels, and these have {channels}")
    objective, num_classes = config.objective, len(ensemble.class_names)
    fewest = num_classes if objective.joint else min(len(member.classes) + 1 for member in ensemble.members)
    if objective.uses_teacher and objective.logit_standardization and min(fewest, num_classes) < _FEWEST_STANDARDIZED:
        raise InputError(
            f"logit_standardization=true: with loss={objective.loss} a member has 2 outcomes, whose standardised logits are "
            "the same for all images; take loss=joint_kd, or groups of more classes"
        )


def _write_start(ensemble: Ensemble, teacher: nn.Module | None, folder: Path) -> None:
    # The manifest is written last, so the folder is complete where it exists.
    if (folder / START / MANIFEST).exists():
        return
    if teacher is not None:
        save_network(teacher, ensemble.spec, folder / TEACHER)
    save_ensemble(ensemble, folder / START)


def _parts(budget: Budget, members: Sequence[Sequence[int]], joint: bool) -> list[Budget]:
    """Return the budget of each worker: seconds run for all at once, epochs are dealt like members.

    Raises:
        InputError: some members would not be trained at all.
    """
    if budget.epochs is None:
        return [budget] * len(members)
    count = sum(len(own) for own in members)
    if budget.epochs < count:
        raise InputError(f"budget='{budget.epochs}epochs': must be at least an epoch for each of {count} members")
    if joint:
        epochs = [budget.epochs // count * len(own) for own in members]
    else:
        ends = [budget.epochs * sum(len(own) for own in members[: n + 1]) // count for n in range(len(members))]
        epochs = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    return [replace(budget, epochs=each) for each in epochs]


def _run_twice(jobs: Sequence[WorkerJob], workers: Workers, ensemble: Ensemble) -> dict[int, str]:
    """Run all workers; where one is lost, run all once more from their last checkpoints."""
    try:
        return workers.run(_ready(jobs, workers))
    except WorkerLostError:
        pass
    try:
        return workers.run(_ready(jobs, workers))
    except WorkerLostError as error:
        members = "; ".join(", ".join(_names(ensemble, number) for number in job.members) for job in jobs)
        raise InputError(
            f"jobs={len(jobs)}: a worker, of those with the members {members}, was lost twice ({error}); fewer need less memory"
        ) from error


def _ready(jobs: Sequence[WorkerJob], workers: Workers) -> list[WorkerJob]:
    """Return the jobs; with a joint loss all members are in the same epoch, and several workers have a new rendezvous."""
    if not jobs[0].config.objective.joint:
        return list(jobs)
    checkpoints = [member_checkpoints(job.folder, number) for job in jobs for number in job.members]
    common = min(len(history.epochs) if (history := each.history()) else 0 for each in checkpoints)
    for each in checkpoints:
        each.rewind(common)
    if len(jobs) == 1:
        return list(jobs)
    places = jobs[0].folder / "rendezvous"
    shutil.rmtree(places, ignore_errors=True)
    file = places / uuid.uuid4().hex
    return [
        replace(job, rendezvous=Rendezvous(file, rank, len(jobs), workers.loopback)) for rank, job in enumerate(jobs)
    ]


def _names(ensemble: Ensemble, number: int) -> str:
    return "+".join(ensemble.class_names[label] for label in ensemble.members[number].classes)


@contextmanager
def _watch_progress(
    folder: Path, members: int, on_epoch: OnEpoch, why_end: Callable[[], BaseException | None]
) -> Iterator[None]:
    """While the block runs, call `on_epoch` for every epoch that appears in the checkpoints, and end workers on demand."""
    epochs = [0] * members
    ended, errors = threading.Event(), []

    def notify() -> None:
        for number in range(members):
            if (history := member_checkpoints(folder, number).history(more_than=epochs[number])) is not None:
                for epoch in range(epochs[number], len(history.epochs)):
                    on_epoch(number, epoch, history.epochs[epoch])
                epochs[number] = len(history.epochs)
        if why_end() is not None:
            (folder / END).touch()

    def watch() -> None:
        try:
            while not ended.wait(_SECONDS_BETWEEN_LOOKS):
                notify()
            notify()
        except Exception as error:
            errors.append(error)
            # Nobody would hear of the epochs that are trained from here on.
            (folder / END).touch()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if errors:
        raise errors[0]
