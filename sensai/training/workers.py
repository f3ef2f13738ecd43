"""A worker: one process with a few cores or a GPU, which trains some of the members on one stream of batches."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from sensai.cluster.cores import pinned
from sensai.data.batches import Augmentation, batches, on_device_dataset, steps_per_epoch, training_batches
from sensai.data.dataset import Dataset
from sensai.ensemble import Ensemble, load_ensemble
from sensai.models.layout import laid_out
from sensai.models.storage import load_network
from sensai.training.captured import captured
from sensai.training.checkpoints import Checkpoints
from sensai.training.joint_trainer import JointLogits, JointTrainer
from sensai.training.member_trainer import MemberTrainer, Recipe
from sensai.training.objectives import Objective
from sensai.training.precision import Precision
from sensai.training.rendezvous import ProcessGroup, Rendezvous, rendezvous
from sensai.training.training_loop import Budget, Teacher, fit

Loss = Literal["bce", "kd", "joint", "joint_kd"]
Balance = Literal["weight", "sample"]

START = "start"
TEACHER = "teacher"
# Where this file is, workers end before the next epoch.
END = "end"


class WorkerLostError(Exception):
    """The processes of one trainer have lost each other."""


@dataclass(frozen=True)
class Stream:
    """The training batches that members share.

    Attributes:
        batch_size: images a step.
        augmentation: of the training images.
        seed: of order and augmentation.
    """

    batch_size: int
    augmentation: Augmentation
    seed: int


@dataclass(frozen=True)
class Lesson:
    """What members learn.

    Attributes:
        loss: `bce`: each by itself; `joint`: one cross entropy over the logits of all; with `kd` the targets are in part the
            base model's probabilities.
        teacher_share: that part, for the losses with `kd`.
        balance: how a class counts as much as all others together: by the `weight` of its images, or by a `sample` of the
            others. Joint losses weigh.
        precision: what forward passes are computed in.
    """

    loss: Loss = "bce"
    teacher_share: float = 0.0
    balance: Balance = "weight"
    precision: Precision = "fp32"

    @property
    def joint(self) -> bool:
        """All members are one trainer."""
        return self.loss.startswith("joint")

    @property
    def taught(self) -> bool:
        """The base model takes part."""
        return self.loss.endswith("kd") and self.teacher_share > 0


@dataclass(frozen=True)
class WorkerJob:
    """The work of one worker: it needs nothing but this and the folder, which all workers see.

    Attributes:
        folder: holds the ensemble as it was cut (`start`), the base model (`teacher`) and each member's checkpoints.
        members: numbers of those that this worker trains.
        dataset: trained on `train`, judged on `val`.
        recipe: how each is trained.
        stream: the batches.
        lesson: what is learnt.
        device: where batches are made and members trained.
        threads: of every library.
        budget: of this worker; None: no limit.
        rendezvous: with the workers of the other members where all are one trainer; None: the trainer is here.
    """

    folder: Path
    members: tuple[int, ...]
    dataset: Dataset
    recipe: Recipe
    stream: Stream
    lesson: Lesson
    device: torch.device
    threads: int
    budget: Budget | None = None
    rendezvous: Rendezvous | None = None


def member_checkpoints(folder: Path, number: int) -> Checkpoints:
    """Where a member's checkpoints lie."""
    return Checkpoints(folder / f"member_{number:03d}")


def run_worker(job: WorkerJob) -> dict[int, str]:
    """Train the members of a worker, going on from their checkpoints; what they become lies in these.

    Returns:
        Member -> why it failed twice.

    Raises:
        WorkerLostError: a worker of the same trainer has ended.
    """
    # Training seeds the generators of this process, which may be the user's own.
    devices = [job.device] if job.device.type == "cuda" else []
    with pinned(job.threads), torch.random.fork_rng(devices):
        if job.rendezvous is None:
            return _train(job, None)
        try:
            with rendezvous(job.rendezvous, job.device) as group:
                return _train(job, group)
        except RuntimeError as error:
            raise WorkerLostError(" ".join(str(error).split())) from error


def _train(job: WorkerJob, group: ProcessGroup | None) -> dict[int, str]:
    ensemble = load_ensemble(job.folder / START).to(job.device)
    for number in job.members:
        laid_out(ensemble.members[number].network, ensemble.spec.memory_format)
    stream, lesson = job.stream, job.lesson
    trainers = (
        [_joint_trainer(ensemble, job, group)] if lesson.joint else [_trainer_of(ensemble, job, n) for n in job.members]
    )
    data = (ensemble.normalization, job.device)
    failures = fit(
        trainers,
        partial(
            training_batches,
            on_device_dataset(job.dataset.train, job.device),
            stream.batch_size,
            *data,
            augmentation=stream.augmentation,
            seed=stream.seed,
        ),
        partial(batches, on_device_dataset(job.dataset.val, job.device), stream.batch_size, *data)
        if job.dataset.val
        else None,
        teacher=_teacher(job) if lesson.taught else None,
        budget=job.budget,
        ended=partial(ended, job.folder / END, group),
    )
    members = [job.members] if lesson.joint else [(number,) for number in job.members]
    return {number: reason for position, reason in failures.items() for number in members[position]}


def ended(end: Path, group: ProcessGroup | None) -> bool:
    """Whether training ends before the next epoch: where the file is there, for one of those that learn jointly."""
    # Of workers that learn jointly one may look just before the file is there, another just after.
    return end.exists() if group is None else group.any(end.exists())


def _teacher(job: WorkerJob) -> Teacher:
    network, _ = load_network(job.folder / TEACHER)
    return Teacher(network.to(job.device), job.lesson.precision)


def _trainer_of(ensemble: Ensemble, job: WorkerJob, number: int) -> JointTrainer:
    member, num_classes, lesson = ensemble.members[number], len(ensemble.class_names), job.lesson
    share = lesson.teacher_share if lesson.taught else 0.0
    sampled = lesson.balance == "sample" and len(member.classes) < num_classes
    if sampled:
        objective = Objective.unweighted(member.classes, num_classes, share)
    else:
        objective = Objective.balanced(member.classes, num_classes, job.dataset.train.labels, share)
    return JointTrainer(
        # By sampling, each batch is of another size.
        member.network if sampled else captured(member.network, job.device),
        objective,
        [_member_trainer(ensemble, job, number)],
        precision=lesson.precision,
        seed=job.stream.seed * len(ensemble.members) + number,
        sampled=sampled,
    )


def _joint_trainer(ensemble: Ensemble, job: WorkerJob, group: ProcessGroup | None) -> JointTrainer:
    num_classes, lesson = len(ensemble.class_names), job.lesson
    members = [ensemble.members[number] for number in job.members]
    share = lesson.teacher_share if lesson.taught else 0.0
    logits = JointLogits(
        [member.network for member in members], [member.classes for member in members], num_classes, group
    )
    return JointTrainer(
        # Processes wait for each other in the midst of a pass, which no graph can.
        captured(logits, job.device) if group is None else logits,
        Objective.balanced(tuple(range(num_classes)), num_classes, job.dataset.train.labels, share),
        [_member_trainer(ensemble, job, number) for number in job.members],
        precision=lesson.precision,
        seed=job.stream.seed,
        group=group,
    )


def _member_trainer(ensemble: Ensemble, job: WorkerJob, number: int) -> MemberTrainer:
    steps = steps_per_epoch(job.dataset.train, job.stream.batch_size)
    return MemberTrainer(ensemble.members[number].network, job.recipe, steps, member_checkpoints(job.folder, number))
