"""A slot: one process with a few cores or a GPU, which trains some of the members on one stream of batches."""

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
from sensai.training.exchange import Exchange, Meeting, met
from sensai.training.fitting import Budget, Teacher, fit
from sensai.training.objectives import Objective
from sensai.training.precision import Precision
from sensai.training.teams import JointLogits, Team
from sensai.training.trainee import Recipe, Trainee

Loss = Literal["bce", "kd", "joint", "joint_kd"]
Balance = Literal["weight", "sample"]

START = "start"
TEACHER = "teacher"
# Where this file is, slots end before the next epoch.
END = "end"


class SlotLostError(Exception):
    """The processes of one team have lost each other."""


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
        """All members are one team."""
        return self.loss.startswith("joint")

    @property
    def taught(self) -> bool:
        """The base model takes part."""
        return self.loss.endswith("kd") and self.teacher_share > 0


@dataclass(frozen=True)
class SlotJob:
    """The work of one slot: it needs nothing but this and the folder, which all slots see.

    Attributes:
        folder: holds the ensemble as it was cut (`start`), the base model (`teacher`) and each member's checkpoints.
        members: numbers of those that this slot trains.
        dataset: trained on `train`, judged on `val`.
        recipe: how each is trained.
        stream: the batches.
        lesson: what is learnt.
        device: where batches are made and members trained.
        threads: of every library.
        budget: of this slot; None: no limit.
        meeting: with the slots of the other members where all are one team; None: the team is here.
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
    meeting: Meeting | None = None


def member_checkpoints(folder: Path, number: int) -> Checkpoints:
    """Where a member's checkpoints lie."""
    return Checkpoints(folder / f"member_{number:03d}")


def run_slot(job: SlotJob) -> dict[int, str]:
    """Train the members of a slot, going on from their checkpoints; what they become lies in these.

    Returns:
        Member -> why it failed twice.

    Raises:
        SlotLostError: a slot of the same team has ended.
    """
    # Training seeds the generators of this process, which may be the user's own.
    devices = [job.device] if job.device.type == "cuda" else []
    with pinned(job.threads), torch.random.fork_rng(devices):
        if job.meeting is None:
            return _train(job, None)
        try:
            with met(job.meeting, job.device) as exchange:
                return _train(job, exchange)
        except RuntimeError as error:
            raise SlotLostError(" ".join(str(error).split())) from error


def _train(job: SlotJob, exchange: Exchange | None) -> dict[int, str]:
    ensemble = load_ensemble(job.folder / START).to(job.device)
    for number in job.members:
        laid_out(ensemble.members[number].network, ensemble.spec.memory_format)
    stream, lesson = job.stream, job.lesson
    teams = [_joint_team(ensemble, job, exchange)] if lesson.joint else [_team(ensemble, job, n) for n in job.members]
    data = (ensemble.normalization, job.device)
    failures = fit(
        teams,
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
        ended=partial(ended, job.folder / END, exchange),
    )
    members = [job.members] if lesson.joint else [(number,) for number in job.members]
    return {number: reason for position, reason in failures.items() for number in members[position]}


def ended(end: Path, exchange: Exchange | None) -> bool:
    """Whether training ends before the next epoch: where the file is there, for one of those that learn jointly."""
    # Of slots that learn jointly one may look just before the file is there, another just after.
    return end.exists() if exchange is None else exchange.any(end.exists())


def _teacher(job: SlotJob) -> Teacher:
    network, _ = load_network(job.folder / TEACHER)
    return Teacher(network.to(job.device), job.lesson.precision)


def _team(ensemble: Ensemble, job: SlotJob, number: int) -> Team:
    member, num_classes, lesson = ensemble.members[number], len(ensemble.class_names), job.lesson
    share = lesson.teacher_share if lesson.taught else 0.0
    sampled = lesson.balance == "sample" and len(member.classes) < num_classes
    if sampled:
        objective = Objective.unweighted(member.classes, num_classes, share)
    else:
        objective = Objective.balanced(member.classes, num_classes, job.dataset.train.labels, share)
    return Team(
        # By sampling, each batch is of another size.
        member.network if sampled else captured(member.network, job.device),
        objective,
        [_trainee(ensemble, job, number)],
        precision=lesson.precision,
        seed=job.stream.seed * len(ensemble.members) + number,
        sampled=sampled,
    )


def _joint_team(ensemble: Ensemble, job: SlotJob, exchange: Exchange | None) -> Team:
    num_classes, lesson = len(ensemble.class_names), job.lesson
    members = [ensemble.members[number] for number in job.members]
    share = lesson.teacher_share if lesson.taught else 0.0
    logits = JointLogits(
        [member.network for member in members], [member.classes for member in members], num_classes, exchange
    )
    return Team(
        # Processes wait for each other in the midst of a pass, which no graph can.
        captured(logits, job.device) if exchange is None else logits,
        Objective.balanced(tuple(range(num_classes)), num_classes, job.dataset.train.labels, share),
        [_trainee(ensemble, job, number) for number in job.members],
        precision=lesson.precision,
        seed=job.stream.seed,
        exchange=exchange,
    )


def _trainee(ensemble: Ensemble, job: SlotJob, number: int) -> Trainee:
    steps = steps_per_epoch(job.dataset.train, job.stream.batch_size)
    return Trainee(ensemble.members[number].network, job.recipe, steps, member_checkpoints(job.folder, number))
