"""A worker: one process with a few cores or a GPU, which trains some of the members on shared batches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sensai.cluster.cores import pinned
from sensai.data.batches import batches, on_device_dataset, steps_per_epoch, training_batches
from sensai.ensemble import Ensemble, load_ensemble
from sensai.models.layout import laid_out
from sensai.models.storage import load_network
from sensai.training.captured import captured
from sensai.training.checkpoints import Checkpoints
from sensai.training.joint_trainer import JointLogits, JointTrainer
from sensai.training.member_trainer import MemberTrainer
from sensai.training.objectives import Objective
from sensai.training.precision import Precision, autocast
from sensai.training.rendezvous import ProcessGroup, Rendezvous, rendezvous
from sensai.training.training_config import TrainingConfig, TrainingData
from sensai.training.training_loop import Teacher, fit

if TYPE_CHECKING:
    # Workers form no groups, so their processes need not wait for what that takes.
    from sensai.grouping.partitions import Group

START = "start"
TEACHER = "teacher"
# Workers end before the next epoch once this file exists.
END = "end"


class WorkerLostError(Exception):
    """A worker was killed, or processes that train together have lost each other."""


@dataclass(frozen=True)
class WorkerJob:
    """The work of one worker, which needs nothing else but the folder.

    Attributes:
        folder: that all workers see: the ensemble as it was cut (`start`), the base model (`teacher`) and checkpoints.
        members: numbers of the members that this worker trains.
        dataset: trained on `train`, judged on `val`.
        config: of the training; its budget is this worker's part.
        device: of batches and members.
        threads: of every library.
        rendezvous: with the workers of the other members where all learn together; None: all of them are here.
        network: of the base model's architecture, where no name makes one.
    """

    folder: Path
    members: tuple[int, ...]
    dataset: TrainingData
    config: TrainingConfig
    device: torch.device
    threads: int
    rendezvous: Rendezvous | None = None
    network: nn.Module | None = None


def member_checkpoints(folder: Path, number: int) -> Checkpoints:
    """Return the checkpoints of a member."""
    return Checkpoints(folder / f"member_{number:03d}")


def run_worker(job: WorkerJob) -> dict[int, str]:
    """Train the members of a worker from their last checkpoints on, and leave the result in new ones.

    Returns:
        Member -> why it failed twice.

    Raises:
        WorkerLostError: a worker that trains with this one has ended.
    """
    with _own_process_state(job), _process_group(job) as group:
        ensemble = load_ensemble(job.folder / START, job.network).to(job.device)
        for number in job.members:
            laid_out(ensemble.members[number].network, ensemble.spec.memory_format)
        if job.config.objective.joint:
            trained, trainers = [job.members], [_joint_trainer(ensemble, job, group)]
        else:
            trained = [(number,) for number in job.members]
            trainers = [_single_trainer(ensemble, job, number) for number in job.members]
        source = (ensemble.normalization, job.device)
        config, dataset = job.config.batches, job.dataset
        failures = fit(
            trainers,
            partial(
                training_batches,
                on_device_dataset(dataset.train, job.device),
                config.batch_size,
                *source,
                augmentation=config.augmentation,
                seed=config.seed,
                auto_augment=config.auto_augment,
                mixing=config.mixing,
            ),
            partial(batches, on_device_dataset(dataset.val, job.device), config.batch_size, *source)
            if dataset.val
            else None,
            teacher=_teacher(job) if job.config.objective.uses_teacher else None,
            budget=job.config.budget,
            ended=partial(ended, job.folder / END, group),
        )
        return {number: reason for position, reason in failures.items() for number in trained[position]}


def ended(end: Path, group: ProcessGroup | None) -> bool:
    """Return whether training ends before the next epoch: the file exists for one of the processes."""
    # Of workers that train together one may look just before the file is written, another just after.
    return end.exists() if group is None else group.any(end.exists())


@contextmanager
def _own_process_state(job: WorkerJob) -> Iterator[None]:
    """Pin the threads, and leave the generators as they were: the process may be the user's own."""
    devices = [job.device] if job.device.type == "cuda" else []
    with pinned(job.threads), torch.random.fork_rng(devices):
        yield


@contextmanager
def _process_group(job: WorkerJob) -> Iterator[ProcessGroup | None]:
    """Join the workers that train together.

    Raises:
        WorkerLostError: one of them has ended.
    """
    if job.rendezvous is None:
        yield None
        return
    try:
        with rendezvous(job.rendezvous, job.device) as group:
            yield group
    except RuntimeError as error:
        raise WorkerLostError(" ".join(str(error).split())) from error


def _teacher(job: WorkerJob) -> Teacher:
    network, _ = load_network(job.folder / TEACHER, job.network)
    return partial(teacher_logits, network.to(job.device), job.config.objective.precision)


@torch.no_grad()
def teacher_logits(network: nn.Module, precision: Precision, images: Tensor) -> Tensor:
    """Return logits float32 (N, K) of a network in eval mode for normalised images (N, C, H, W)."""
    with autocast(precision, images.device):
        logits: Tensor = network(images).float()
        return logits


def _single_trainer(ensemble: Ensemble, job: WorkerJob, number: int) -> JointTrainer:
    """Return the trainer of a member that learns by itself."""
    member, num_classes, config = ensemble.members[number], len(ensemble.class_names), job.config.objective
    sampled = config.balance == "sample" and len(member.classes) < num_classes
    trainer = _member_trainer(ensemble, job, number)
    return JointTrainer(
        # A sample makes each batch another size, which no graph can be captured for.
        member.network if sampled else captured(member.network, job.device),
        Objective.unweighted(member.classes, num_classes, config)
        if sampled
        else Objective.balanced(member.classes, num_classes, job.dataset.train.labels, config),
        [trainer],
        judged=trainer.judged,
        precision=config.precision,
        seed=job.config.batches.seed * len(ensemble.members) + number,
        sampled=sampled,
        stream=stream_of(number, ensemble.groups),
    )


def stream_of(number: int, groups: "Sequence[Group]") -> int:
    """Return how many members before this one have its classes.

    Members of other classes share one stream, because their labels make them differ. Members of the same classes would
    become too much alike, so each gets an order and an augmentation of its own.
    """
    return sum(set(group) == set(groups[number]) for group in groups[:number])


def _joint_trainer(ensemble: Ensemble, job: WorkerJob, group: ProcessGroup | None) -> JointTrainer:
    """Return the trainer of all members of this worker, which learn together."""
    num_classes, config = len(ensemble.class_names), job.config.objective
    trainers = [_member_trainer(ensemble, job, number) for number in job.members]
    logits, judged = (
        JointLogits(networks, job.members, ensemble.groups, num_classes, group)
        for networks in ([each.network for each in trainers], [each.judged for each in trainers])
    )
    return JointTrainer(
        # Processes wait for each other in the middle of a pass, which no graph can do.
        captured(logits, job.device) if group is None else logits,
        Objective.balanced(tuple(range(num_classes)), num_classes, job.dataset.train.labels, config),
        trainers,
        judged=judged,
        precision=config.precision,
        seed=job.config.batches.seed,
        group=group,
    )


def _member_trainer(ensemble: Ensemble, job: WorkerJob, number: int) -> MemberTrainer:
    steps = steps_per_epoch(job.dataset.train, job.config.batches.batch_size)
    network = ensemble.members[number].network
    return MemberTrainer(network, job.config.optimizer, steps, member_checkpoints(job.folder, number))
