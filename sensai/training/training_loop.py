"""The training loop: every batch is made once and trains all networks that are in the same epoch of its stream."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from torch import Tensor

from sensai.training.joint_trainer import JointTrainer, is_out_of_memory
from sensai.training.objectives import judge
from sensai.training.training_config import Budget

# Images float32 (N, C, H, W), and labels int64 (N,), or float32 (N, K) of mixed images.
Batches = Iterable[tuple[Tensor, Tensor]]
# Position of the trainer, epoch, metrics.
OnEpoch = Callable[[int, int, dict[str, float]], None]
# Images (N, C, H, W) -> logits float32 (N, K), computed once a batch for all trainers.
Teacher = Callable[[Tensor], Tensor]

# The gain over so many epochs decides who gets the next epoch of a budget.
_RECENT = 2


def fit(
    trainers: Sequence[JointTrainer],
    training: Callable[[int, int], Batches],
    validation: Callable[[], Batches] | None,
    *,
    on_epoch: OnEpoch = lambda *_: None,
    teacher: Teacher | None = None,
    budget: Budget | None = None,
    ended: Callable[[], bool] = lambda: False,
) -> dict[int, str]:
    """Train networks in place and leave each with the weights of its best epoch, in eval mode.

    The result of a network does not depend on the others that share its batches: each trainer has its own labels, weights,
    optimizer, schedule and stop. A trainer that fails (its loss is no longer finite, or memory does not suffice) leaves the
    others alone, and is tried once more from its last checkpoint when they are done.

    Args:
        trainers: that are trained; those that a killed training left behind catch up first.
        training: epoch and stream -> its batches, the same ones each time it is asked for them.
        validation: the validation batches; None: the last epoch is the best.
        on_epoch: called with each trainer's epochs and their metrics, including those that an earlier process trained.
        teacher: for objectives that use one.
        budget: when it is used up, all stop. Until then the trainer whose validation metric has grown most gets the next epoch:
            a second where seconds are limited, else an epoch. The decays of schedules are paid from it too, so training stops
            early enough for them. Without limits all train until they stop by themselves.
        ended: asked before each epoch whether training ends here, to go on from its checkpoints another time.

    Returns:
        position -> why the trainer failed twice; its networks have the weights of their best epoch until then.
    """
    for position, trainer in enumerate(trainers):
        for epoch, metrics in enumerate(trainer.history.epochs):
            on_epoch(position, epoch, metrics)
    for running in _attempts(trainers):
        while not ended() and (together := _next(running, trainers, budget or Budget())):
            epoch = together[0].epoch
            for trainer in _trained(together, training(epoch, together[0].stream), validation, teacher):
                on_epoch(trainers.index(trainer), epoch, trainer.history.epochs[-1])
        if ended():
            return {}
    for trainer in trainers:
        trainer.load_best()
    return {position: trainer.failure for position, trainer in enumerate(trainers) if trainer.failure}


def _attempts(trainers: Sequence[JointTrainer]) -> Iterator[Sequence[JointTrainer]]:
    """Yield all trainers, and then one by one those that failed, once more from their last checkpoints."""
    yield trainers
    for trainer in [each for each in trainers if each.failure]:
        # The checkpoint remembers a second attempt, so a killed training has no more attempts than others.
        if not trainer.history.failure:
            trainer.go_back()
            yield [trainer]


def _trained(
    trainers: Sequence[JointTrainer],
    batches: Batches,
    validation: Callable[[], Batches] | None,
    teacher: Teacher | None,
) -> Iterator[JointTrainer]:
    """Train and judge one epoch; yield each trainer that did not fail in it, after its checkpoint is written."""
    start = time.perf_counter()
    for trainer in trainers:
        trainer.begin_epoch()
    for images, labels in batches:
        logits = None if teacher is None else teacher(images)
        for trainer in trainers:
            if not trainer.failure:
                trainer.step(images, labels, logits)
    trained = [trainer for trainer in trainers if not trainer.failure]
    judged = _judged(trained, validation)
    seconds = (time.perf_counter() - start) / max(len(trained), 1)
    for trainer, metrics in zip(trained, judged, strict=True):
        if not trainer.failure:
            trainer.end_epoch(metrics, seconds)
        if not trainer.failure:
            yield trainer


def _next(running: Sequence[JointTrainer], trainers: Sequence[JointTrainer], budget: Budget) -> list[JointTrainer]:
    """Return the trainers, all in the same epoch of one stream, that are trained next; none when all are done."""
    unfinished = [trainer for trainer in running if not trainer.done]
    if not budget.limited or not unfinished:
        return _of_one_stream(_furthest_behind(unfinished))
    # A decay goes on as soon as it has begun. Before that, all decays are paid for.
    decaying = [trainer for trainer in unfinished if trainer.decaying]
    candidates = decaying or unfinished
    epochs_left, seconds_left = _left(budget, trainers, [] if decaying else unfinished)
    affordable = [
        trainer
        for trainer in candidates
        if len(trainer.members) <= epochs_left and trainer.seconds_an_epoch < seconds_left
    ]
    if not affordable:
        for trainer in candidates:
            trainer.stop("budget")
        return _next(running, trainers, budget)
    gains = {trainer: _recent_gain(trainer, budget) for trainer in affordable}
    # Ties go to the trainer with the fewest epochs. Those whose gain is not known yet begin together.
    first = max(affordable, key=lambda trainer: (gains[trainer], -trainer.epoch))
    if math.isfinite(gains[first]):
        return [first]
    begin = [
        trainer
        for trainer in affordable
        if not math.isfinite(gains[trainer]) and (trainer.epoch, trainer.stream) == (first.epoch, first.stream)
    ]
    epochs = list(accumulate(len(trainer.members) for trainer in begin))
    seconds = list(accumulate(trainer.seconds_an_epoch for trainer in begin))
    within = sum(e <= epochs_left and s < seconds_left for e, s in zip(epochs, seconds, strict=True))
    return begin[:within]


def _recent_gain(trainer: JointTrainer, budget: Budget) -> float:
    """Return the gain per second where seconds are limited, else per epoch; infinite before it is known."""
    gain = trainer.recent_gain(_RECENT)
    # A budget of epochs must not depend on any clock.
    return gain / trainer.seconds_an_epoch if budget.seconds is not None and math.isfinite(gain) else gain


def _furthest_behind(trainers: Sequence[JointTrainer]) -> list[JointTrainer]:
    lowest = min((trainer.epoch for trainer in trainers), default=0)
    return [trainer for trainer in trainers if trainer.epoch == lowest]


def _of_one_stream(trainers: Sequence[JointTrainer]) -> list[JointTrainer]:
    return [trainer for trainer in trainers if trainer.stream == trainers[0].stream]


def _left(budget: Budget, trainers: Sequence[JointTrainer], to_decay: Sequence[JointTrainer]) -> tuple[float, float]:
    """Return the epochs and seconds that are left, less those that decays take."""
    members = [member for trainer in trainers for member in trainer.members]
    epochs = sum(member.epoch for member in members)
    epochs += sum(trainer.epochs_after_stop * len(trainer.members) for trainer in to_decay)
    seconds = sum(member.history.seconds for member in members)
    seconds += sum(trainer.epochs_after_stop * trainer.seconds_an_epoch for trainer in to_decay)
    return (
        math.inf if budget.epochs is None else budget.epochs - epochs,
        math.inf if budget.seconds is None else budget.seconds - seconds,
    )


def _judged(trainers: Sequence[JointTrainer], validation: Callable[[], Batches] | None) -> list[dict[str, float]]:
    if validation is None:
        return [{} for _ in trainers]
    try:
        return judge([(trainer.judged, trainer.objective) for trainer in trainers], validation())
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error) or any(trainer.awaited for trainer in trainers):
            raise
    # One after the other, so that the one that lacks memory is known.
    return [_judged_alone(trainer, validation) for trainer in trainers]


def _judged_alone(trainer: JointTrainer, validation: Callable[[], Batches]) -> dict[str, float]:
    """Return the metrics; where memory does not suffice, none, and the trainer has failed."""
    found: dict[str, float] = {}
    with trainer.isolation():
        (found,) = judge([(trainer.judged, trainer.objective)], validation())
    return found
