"""The training loop: every batch is made once and trains all teams that are in the same epoch."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from sensai.training.objectives import judge
from sensai.training.precision import Precision, autocast
from sensai.training.teams import Team, is_out_of_memory

Batches = Iterable[tuple[Tensor, Tensor]]
# Position of the team, epoch, metrics.
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
    teams: Sequence[Team],
    training: Callable[[int], Batches],
    validation: Callable[[], Batches] | None,
    *,
    on_epoch: OnEpoch = lambda *_: None,
    teacher: Teacher | None = None,
    budget: Budget | None = None,
    ended: Callable[[], bool] = lambda: False,
) -> dict[int, str]:
    """Train networks in place and leave each with the weights of its best epoch, in eval mode.

    What a network becomes does not depend on which others share its batches: each team has its own labels, weights,
    optimiser, schedule and stop. One that fails (its loss is no longer finite, memory does not suffice) leaves the others
    alone, and is tried once more from its last checkpoint when they are done.

    Args:
        teams: what is trained; those that a killed training left behind in their epochs catch up first.
        training: epoch -> its batches, the same ones each time it is asked for an epoch.
        validation: the validation batches; None: the last epoch is the best.
        on_epoch: called with each team's epochs and their metrics, those of a checkpoint that is gone on from included.
        teacher: for objectives that use one.
        budget: when it is used up, all stop; until then the team whose validation metric has grown most gets the next epoch,
            a second where seconds are what there is, else an epoch. None: all go on until they stop by themselves.
        ended: asked before each epoch whether training ends here, as it is, to go on from its checkpoints another time.

    Returns:
        position -> why the team failed twice; it has the weights of its best epoch until then.
    """
    for position, team in enumerate(teams):
        for epoch, metrics in enumerate(team.lead.progress.history):
            on_epoch(position, epoch, metrics)
    _run(teams, teams, training, validation, on_epoch, teacher, budget, ended)
    if ended():
        return {}
    for team in (failed := [team for team in teams if team.failure]):
        # That it was tried again stands in the checkpoint, so a killed training does not try more often than others.
        if not team.lead.progress.failure:
            team.go_back()
            _run([team], teams, training, validation, on_epoch, teacher, budget, ended)
    for team in teams:
        for trainee in team.trainees:
            trainee.load_best()
    return {position: team.failure for position, team in enumerate(teams) if team in failed and team.failure}


def _run(
    running: Sequence[Team],
    teams: Sequence[Team],
    training: Callable[[int], Batches],
    validation: Callable[[], Batches] | None,
    on_epoch: OnEpoch,
    teacher: Teacher | None,
    budget: Budget | None,
    ended: Callable[[], bool],
) -> None:
    while not ended() and (together := _next(running, teams, budget)):
        epoch, start = together[0].lead.epoch, time.perf_counter()
        _train_epoch(together, training(epoch), teacher)
        together = [team for team in together if not team.failure]
        judged = _judged(together, validation)
        seconds = (time.perf_counter() - start) / max(len(together), 1)
        for team, metrics in zip(together, judged, strict=True):
            if not team.failure:
                team.end_epoch(metrics, seconds)
            if not team.failure:
                on_epoch(teams.index(team), epoch, team.lead.progress.history[-1])


def _next(running: Sequence[Team], teams: Sequence[Team], budget: Budget | None) -> list[Team]:
    """Teams in the same epoch that are trained next; none when all are done."""
    unfinished = [team for team in running if not team.done]
    if budget is None or not unfinished:
        return _furthest_behind(unfinished)
    epochs_left, seconds_left = _left(budget, teams)
    affordable = [
        team for team in unfinished if len(team.trainees) <= epochs_left and team.seconds_an_epoch < seconds_left
    ]
    if not affordable:
        for team in unfinished:
            team.stop("budget")
        return []
    gains = {team: _recent_gain(team, budget) for team in affordable}
    # Ties go to the one that has had least; those that nothing is known of yet begin together.
    first = max(affordable, key=lambda team: (gains[team], -team.lead.epoch))
    if math.isfinite(gains[first]):
        return [first]
    begin = [team for team in affordable if not math.isfinite(gains[team]) and team.lead.epoch == first.lead.epoch]
    epochs = list(accumulate(len(team.trainees) for team in begin))
    seconds = list(accumulate(team.seconds_an_epoch for team in begin))
    within = sum(e <= epochs_left and s < seconds_left for e, s in zip(epochs, seconds, strict=True))
    return begin[:within]


def _recent_gain(team: Team, budget: Budget) -> float:
    """A second where seconds are what there is, else an epoch, in which no clock has a say; infinite before it is known."""
    gain = team.lead.recent_gain(_RECENT)
    return gain / team.seconds_an_epoch if budget.seconds is not None and math.isfinite(gain) else gain


def _furthest_behind(teams: Sequence[Team]) -> list[Team]:
    lowest = min((team.lead.epoch for team in teams), default=0)
    return [team for team in teams if team.lead.epoch == lowest]


def _left(budget: Budget, teams: Sequence[Team]) -> tuple[float, float]:
    trained = [trainee for team in teams for trainee in team.trainees]
    epochs = math.inf if budget.epochs is None else budget.epochs - sum(trainee.epoch for trainee in trained)
    used = sum(trainee.progress.seconds for trainee in trained)
    return epochs, math.inf if budget.seconds is None else budget.seconds - used


def _train_epoch(teams: Sequence[Team], batches: Batches, teacher: Teacher | None) -> None:
    for team in teams:
        team.begin_epoch()
    for images, labels in batches:
        taught = None if teacher is None else teacher(images)
        for team in teams:
            if not team.failure:
                team.step(images, labels, taught)


def _judged(teams: Sequence[Team], validation: Callable[[], Batches] | None) -> list[dict[str, float]]:
    if validation is None:
        return [{} for _ in teams]
    try:
        return judge([(team.model, team.objective) for team in teams], validation())
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error) or any(team.awaited for team in teams):
            raise
    # One after the other, so that it is known who lacks memory.
    return [_judged_alone(team, validation) for team in teams]


def _judged_alone(team: Team, validation: Callable[[], Batches]) -> dict[str, float]:
    """Empty where memory does not suffice, which the team then says."""
    found: dict[str, float] = {}
    with team.isolation():
        (found,) = judge([(team.model, team.objective)], validation())
    return found
