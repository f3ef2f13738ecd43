"""Retraining of all members of an ensemble on one stream of batches. N images, K classes."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from sensai.data.batches import Augmentation, batches, steps_per_epoch, training_batches
from sensai.data.dataset import Dataset
from sensai.ensemble import Ensemble
from sensai.grouping import Group
from sensai.retraining.fitting import OnEpoch, fit
from sensai.retraining.objectives import Objective
from sensai.retraining.trainee import Progress, Recipe, Trainee

Loss = Literal["bce", "kd", "joint", "joint_kd"]


@dataclass(frozen=True)
class Stream:
    """The training batches that members share.

    Attributes:
        batch_size: images a step.
        augmentation: of the training images.
        seed: of order and augmentation.
        device: where they are made, and the members trained.
    """

    batch_size: int
    augmentation: Augmentation
    seed: int
    device: torch.device


class JointLogits(nn.Module):
    """All members as one K-way network: of each class its logit, in a group against the group's "none"."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.networks = ensemble.networks
        self._groups = [member.classes for member in ensemble.members]
        order = [label for group in self._groups for label in group]
        self._order = [order.index(label) for label in range(len(order))]

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) for normalised images (N, C, H, W)."""
        outputs = [network(images) for network in self.networks]
        parts = [
            output if output.shape[1] == len(group) else output[:, 1:] - output[:, :1]
            for output, group in zip(outputs, self._groups, strict=True)
        ]
        return torch.cat(parts, 1)[:, self._order]


def retrain_members(
    ensemble: Ensemble,
    dataset: Dataset,
    recipe: Recipe,
    stream: Stream,
    *,
    loss: Loss,
    teacher: nn.Module | None,
    teacher_share: float,
    checkpoints: Path,
    on_epoch: OnEpoch,
) -> list[Progress]:
    """Train all members in place; each ends with the weights of its best epoch. Returns the progress of each.

    Args:
        ensemble: its members are moved to the stream's device.
        dataset: trained on `train`, judged on `val`.
        recipe: how they are trained; with a joint loss the stop is that of all together, by the accuracy of all K classes.
        stream: the batches.
        loss: `bce`: each by itself; `joint`: one cross entropy over the logits of all; with `kd` the targets are in part the
            teacher's probabilities.
        teacher: the base model in eval mode, on the device; for the losses with `kd`.
        teacher_share: of the targets, for these.
        checkpoints: folder of the files that are written after each epoch and gone on from.
        on_epoch: called with the member's position, the epoch and its metrics.
    """
    ensemble.to(stream.device)
    share = teacher_share if loss.endswith("kd") else 0.0
    make = partial(_trainee, ensemble, dataset, recipe, steps_per_epoch(dataset.train, stream.batch_size), share)
    count = len(ensemble.members)
    if loss.startswith("joint"):
        every_class = tuple(range(len(ensemble.class_names)))
        trainees = [make(JointLogits(ensemble), every_class, checkpoints / "joint.safetensors")]
    else:
        trainees = [
            make(member.network, member.classes, checkpoints / f"member_{number:03d}.safetensors")
            for number, member in enumerate(ensemble.members)
        ]
    # Which members a trainee is made of.
    members = [range(count)] if len(trainees) < count else [range(n, n + 1) for n in range(count)]

    def tell_members(position: int, epoch: int, metrics: dict[str, float]) -> None:
        for number in members[position]:
            on_epoch(number, epoch, metrics)

    data = (ensemble.normalization, stream.device)
    fit(
        trainees,
        partial(
            training_batches,
            dataset.train,
            stream.batch_size,
            *data,
            augmentation=stream.augmentation,
            seed=stream.seed,
        ),
        partial(batches, dataset.val, stream.batch_size, *data) if dataset.val else None,
        tell_members,
        teacher if share else None,
    )
    return [
        replace(trainee.progress, seconds=trainee.progress.seconds / len(numbers))
        for trainee, numbers in zip(trainees, members, strict=True)
        for _ in numbers
    ]


def _trainee(
    ensemble: Ensemble,
    dataset: Dataset,
    recipe: Recipe,
    steps: int,
    teacher_share: float,
    network: nn.Module,
    classes: Group,
    checkpoint: Path,
) -> Trainee:
    objective = Objective.balanced(classes, len(ensemble.class_names), dataset.train.labels, teacher_share)
    return Trainee(network, objective, recipe, steps, checkpoint)
