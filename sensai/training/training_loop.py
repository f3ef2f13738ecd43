"""The training loop: every batch is made once and trains all trainers that are in the same epoch."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from sensai.training.joint_trainer import JointTrainer, is_out_of_memory
from sensai.training.objectives import judge
from sensai.training.precision import Precision, autocast

Batches = Iterable[tuple[Tensor, Tensor]]
# Position of the trainer, epoch, metrics.
OnEpoch = Callable[[int, int, dict[str, float]], None]

# Epochs over which a gain is measured that is to earn the next epoch.
_RECENT = 2


@dataclass(frozen=True)
class Budget:
    """What all members together may take.

    Attributes:
        epochs: in sum over the members; None: as many as they like.
        seconds: of the clock, as far as earlier epochs tell what one takes; None: as many as they like.
    """

    epochs: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Teacher:
    """A network in eval mode whose logits (N, K) are computed once a batch, for all objectives that use them."""

    network: nn.Module
    precision: Precision = "fp32"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits float32 (N, K) for normalised images (N, C, H, W)."""
        with autocast(self.precision, images.device):
            return self.network(images).float()


def fit(
    trainers: Sequence[JointTrainer],
    training: Callable[[int], Batches],
    validation: Callable[[], Batches] | None,
    *,
    on_epoch: OnEpoch = lambda *_: None,
    teacher: Teacher | None = None,
    budget: Budget | None = None,
    ended: Callable[[], bool] = lambda: False,
) -> dict[int, str]:
    """Train networks in place and leave each with the weights of its best epoch, in eval mode.

    What a network becomes does not depend on which others share its batches: each trainer has its own labels, weights,
    optimiser, schedule and stop. One that fails (its loss is no longer finite, memory does not suffice) leaves the others
    alone, and is tried once more from its last checkpoint when they are done.

    Args:
        trainers: what is trained; those that a killed training left behind in their epochs catch up first.
        training: epoch -> its batches, the same ones each time it is asked for an epoch.
        validation: the validation batches; None: the last epoch is the best.
        on_epoch: called with each trainer's epochs and their metrics, those of a checkpoint that is gone on from included.
        teacher: for objectives that use one.
        budget: when it is used up, all stop; until then the trainer whose validation metric has grown most gets the next epoch,
            a second where seconds are what there is, else an epoch. None: all go on until they stop by themselves.
        ended: asked before each epoch whether training ends here, as it is, to go on from its checkpoints another time.

    Returns:
        position -> why the trainer failed twice; it has the weights of its best epoch until then.
    """
    for position, trainer in enumerate(trainers):
        for epoch, metrics in enumerate(trainer.lead.progress.history):
            on_epoch(position, epoch, metrics)
    _run(trainers, trainers, training, validation, on_epoch, teacher, budget, ended)
    if ended():
        return {}
    for trainer in (failed := [trainer for trainer in trainers if trainer.failure]):
        # That it was tried again stands in the checkpoint, so a killed training does not try more often than others.
        if not trainer.lead.progress.failure:
            trainer.go_back()
            _run([trainer], trainers, training, validation, on_epoch, teacher, budget, ended)
    for trainer in trainers:
        for member in trainer.members:
            member.load_best()
    return {
        position: trainer.failure for position, trainer in enumerate(trainers) if trainer in failed and trainer.failure
    }


def _run(
    running: Sequence[JointTrainer],
    trainers: Sequence[JointTrainer],
    training: Callable[[int], Batches],
    validation: Callable[[], Batches] | None,
    on_epoch: OnEpoch,
    teacher: Teacher | None,
    budget: Budget | None,
    ended: Callable[[], bool],
) -> None:
    while not ended() and (together := _next(running, trainers, budget)):
        epoch, start = together[0].lead.epoch, time.perf_counter()
        _train_epoch(together, training(epoch), teacher)
        together = [trainer for trainer in together if not trainer.failure]
        judged = _judged(together, validation)
        seconds = (time.perf_counter() - start) / max(len(together), 1)
        for trainer, metrics in zip(together, judged, strict=True):
            if not trainer.failure:
                trainer.end_epoch(metrics, seconds)
            if not trainer.failure:
                on_epoch(trainers.index(trainer), epoch, trainer.lead.progress.history[-1])


def _next(
    running: Sequence[JointTrainer], trainers: Sequence[JointTrainer], budget: Budget | None
) -> list[JointTrainer]:
    """Teams in the same epoch that are trained next; none when all are done."""
    unfinished = [trainer for trainer in running if not trainer.done]
    if budget is None or not unfinished:
        return _furthest_behind(unfinished)
    epochs_left, seconds_left = _left(budget, trainers)
    affordable = [
        trainer
        for trainer in unfinished
        if len(trainer.members) <= epochs_left and trainer.seconds_an_epoch < seconds_left
    ]
    if not affordable:
        for trainer in unfinished:
            trainer.stop("budget")
        return []
    gains = {trainer: _recent_gain(trainer, budget) for trainer in affordable}
    # Ties go to the one that has had least; those that nothing is known of yet begin together.
    first = max(affordable, key=lambda trainer: (gains[trainer], -trainer.lead.epoch))
    if math.isfinite(gains[first]):
        return [first]
    begin = [
        trainer
        for trainer in affordable
        if not math.isfinite(gains[trainer]) and trainer.lead.epoch == first.lead.epoch
    ]
    epochs = list(accumulate(len(trainer.members) for trainer in begin))
    seconds = list(accumulate(trainer.seconds_an_epoch for trainer in begin))
    within = sum(e <= epochs_left and s < seconds_left for e, s in zip(epochs, seconds, strict=True))
    return begin[:within]


def _recent_gain(trainer: JointTrainer, budget: Budget) -> float:
    """A second where seconds are what there is, else an epoch, in which no clock has a say; infinite before it is known."""
    gain = trainer.lead.recent_gain(_RECENT)
    return gain / trainer.seconds_an_epoch if budget.seconds is not None and math.isfinite(gain) else gain


def _furthest_behind(trainers: Sequence[JointTrainer]) -> list[JointTrainer]:
    lowest = min((trainer.lead.epoch for trainer in trainers), default=0)
    return [trainer for trainer in trainers if trainer.lead.epoch == lowest]


def _left(budget: Budget, trainers: Sequence[JointTrainer]) -> tuple[float, float]:
    trained = [member for trainer in trainers for member in trainer.members]
    epochs = math.inf if budget.epochs is None else budget.epochs - sum(member.epoch for member in trained)
    used = sum(member.progress.seconds for member in trained)
    return epochs, math.inf if budget.seconds is None else budget.seconds - used


def _train_epoch(trainers: Sequence[JointTrainer], batches: Batches, teacher: Teacher | None) -> None:
    for trainer in trainers:
        trainer.begin_epoch()
    for images, labels in batches:
        taught = None if teacher is None else teacher(images)
        for trainer in trainers:
            if not trainer.failure:
                trainer.step(images, labels, taught)


def _judged(trainers: Sequence[JointTrainer], validation: Callable[[], Batches] | None) -> list[dict[str, float]]:
    if validation is None:
        return [{} for _ in trainers]
    try:
        return judge([(trainer.model, trainer.objective) for trainer in trainers], validation())
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error) or any(trainer.awaited for trainer in trainers):
            raise
    # One after the other, so that it is known who lacks memory.
    return [_judged_alone(trainer, validation) for trainer in trainers]


def _judged_alone(trainer: JointTrainer, validation: Callable[[], Batches]) -> dict[str, float]:
    """Empty where memory does not suffice, which the trainer then says."""
    found: dict[str, float] = {}
    with trainer.isolation():
        (found,) = judge([(trainer.model, trainer.objective)], validation())
    return found
