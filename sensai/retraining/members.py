"""Retraining of one member of an ensemble."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from sensai.data.batches import Augmentation, batches, steps_per_epoch, training_batches
from sensai.data.dataset import Dataset
from sensai.ensemble import Ensemble
from sensai.retraining.fitting import OnEpoch, Progress, Recipe, fit
from sensai.retraining.objectives import Objective


def retrain_member(
    ensemble: Ensemble,
    number: int,
    dataset: Dataset,
    recipe: Recipe,
    *,
    batch_size: int,
    augmentation: Augmentation,
    seed: int,
    device: torch.device,
    checkpoint: Path,
    on_epoch: OnEpoch,
) -> Progress:
    """Train one member on its own outcomes, in place; it ends with the weights of its best epoch.

    Args:
        ensemble: what the member belongs to.
        number: position of the member, which also enters the draw of order and augmentation.
        dataset: trained on `train`, judged on `val`.
        recipe: how it is trained.
        batch_size: images a step.
        augmentation: of the training images.
        seed: of order and augmentation.
        device: the member is moved there.
        checkpoint: file that is written after each epoch and gone on from.
        on_epoch: see `fitting.fit`.
    """
    member = ensemble.members[number]
    training = partial(
        training_batches,
        dataset.train,
        batch_size,
        ensemble.normalization,
        device,
        augmentation=augmentation,
        seed=_member_seed(seed, number),
    )
    return fit(
        member.network.to(device),
        Objective.balanced(member.classes, len(ensemble.class_names), dataset.train.labels),
        training,
        steps_per_epoch(dataset.train, batch_size),
        partial(batches, dataset.val, batch_size, ensemble.normalization, device) if dataset.val else None,
        recipe,
        checkpoint,
        on_epoch,
    )


def _member_seed(seed: int, number: int) -> int:
    return int(np.random.default_rng([seed, number]).integers(2**31))
