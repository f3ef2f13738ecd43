"""The training loop: every batch is made once and trains all networks that are in the same epoch."""

import time
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from sensai.retraining.objectives import judge
from sensai.retraining.trainee import Trainee

Batches = Iterable[tuple[Tensor, Tensor]]
# Position of the network, epoch, metrics.
OnEpoch = Callable[[int, int, dict[str, float]], None]


def fit(
    trainees: Sequence[Trainee],
    training: Callable[[int], Batches],
    validation: Callable[[], Batches] | None,
    on_epoch: OnEpoch,
    teacher: nn.Module | None = None,
) -> None:
    """Train networks in place and leave each with the weights of its best epoch, in eval mode.

    What a network becomes does not depend on which others share its batches: each has its own labels, weights, optimiser,
    schedule and stop.

    Args:
        trainees: the networks; those that a killed training left behind in their epochs catch up first.
        training: epoch -> its batches, the same ones each time it is asked for an epoch.
        validation: the validation batches; None: the last epoch is the best.
        on_epoch: called with each network's epochs and their metrics, those of a checkpoint that is gone on from included.
        teacher: a network in eval mode whose logits (N, K), computed once a batch, the objectives may use.

    Raises:
        InputError: a loss is no longer finite.
    """
    for position, trainee in enumerate(trainees):
        for epoch, metrics in enumerate(trainee.progress.history):
            on_epoch(position, epoch, metrics)
    while unfinished := [trainee for trainee in trainees if not trainee.progress.done]:
        epoch = min(trainee.epoch for trainee in unfinished)
        together = [trainee for trainee in unfinished if trainee.epoch == epoch]
        start = time.perf_counter()
        _train_epoch(together, training(epoch), teacher)
        judged = _judged(together, validation)
        seconds = (time.perf_counter() - start) / len(together)
        for trainee, metrics in zip(together, judged, strict=True):
            on_epoch(trainees.index(trainee), epoch, trainee.end_epoch(metrics, seconds))
    for trainee in trainees:
        trainee.load_best()


def _train_epoch(trainees: Sequence[Trainee], batches: Batches, teacher: nn.Module | None) -> None:
    for trainee in trainees:
        trainee.begin_epoch()
    for images, labels in batches:
        taught = None if teacher is None else _taught(teacher, images)
        for trainee in trainees:
            trainee.step(images, labels, taught)


@torch.no_grad()
def _taught(teacher: nn.Module, images: Tensor) -> Tensor:
    return teacher(images)


def _judged(trainees: Sequence[Trainee], validation: Callable[[], Batches] | None) -> list[dict[str, float]]:
    if validation is None:
        return [{} for _ in trainees]
    return judge([(trainee.network, trainee.objective) for trainee in trainees], validation())
