"""Stop rules replayed on trainings that went to their end. M members, E epochs.

A rule looks at the metric of the epochs so far. Some rules also look at the other members of the ensemble, or at members of
earlier ensembles, which are known to their end.
"""

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, PercentilePruner, WilcoxonPruner
from optuna.trial import TrialState, create_trial

from sensai.training.stopping import reason_to_stop

Setting = Mapping[str, float]


class Trainings(NamedTuple):
    """Trainings of equal length, one a member.

    Attributes:
        ensembles: int64 (M,), the ensemble of each member.
        values: float64 (M, E), the validation metric of each epoch, larger is better.
    """

    ensembles: np.ndarray
    values: np.ndarray

    @property
    def best(self) -> np.ndarray:
        """Return the best value until each epoch, float64 (M, E)."""
        return np.maximum.accumulate(self.values, axis=1)


class ReplayedRule(NamedTuple):
    """A rule with the settings that are tried.

    Attributes:
        name: for readers.
        epochs_run: function of the trainings that are stopped, of those that are known to their end, and of a setting; it
            returns the epochs after which each member stops, int64 (M,), at most E.
        settings: keyword arguments of `epochs_run`.
    """

    name: str
    epochs_run: Callable[..., np.ndarray]
    settings: Sequence[Setting]


def settings(**choices: Sequence[float]) -> list[Setting]:
    """Return the product of some choices."""
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def first_epochs(judged: Trainings, _known: Trainings, share: float) -> np.ndarray:
    """Stop every member after the same share of the epochs."""
    members, epochs = judged.values.shape
    return np.full(members, max(round(share * epochs), 1))


def plateau(judged: Trainings, _known: Trainings, patience: int, min_gain: float) -> np.ndarray:
    """Stop after `patience` epochs without a gain of more than `min_gain`."""
    return np.array([_epochs_run("plateau", curve, patience=patience, min_gain=min_gain) for curve in judged.values])


def target(judged: Trainings, _known: Trainings, target: float) -> np.ndarray:
    """Stop once the metric has reached `target`."""
    return np.array([_epochs_run("target", curve, target=target) for curve in judged.values])


def _epochs_run(
    rule: str, curve: np.ndarray, *, patience: int = 0, min_gain: float = 0.0, target: float | None = None
) -> int:
    values = curve.tolist()
    for epochs in range(1, len(values)):
        if reason_to_stop([rule], values[:epochs], patience=patience, min_gain=min_gain, target=target):
            return epochs
    return len(values)


def percentile(judged: Trainings, known: Trainings, percentile: float) -> np.ndarray:
    """Stop a member that is not among the best `percentile` per cent of the known members at the same epoch."""
    return _pruned(judged, known, PercentilePruner(percentile, n_startup_trials=1))


def wilcoxon(judged: Trainings, known: Trainings, p_threshold: float) -> np.ndarray:
    """Stop a member whose epochs are surely worse than those of the best known member (Wilcoxon signed-rank test)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        pruner = WilcoxonPruner(p_threshold=p_threshold)
    return _pruned(judged, known, pruner)


def _pruned(judged: Trainings, known: Trainings, pruner: BasePruner) -> np.ndarray:
    """Return the epochs after which a pruner of Optuna stops each member; known members are its complete trials."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize", pruner=pruner)
        study.add_trials(
            [create_trial(value=curve.max(), intermediate_values=_by_epoch(curve)) for curve in known.values]
        )
        return np.array([_epochs_until_pruned(study, curve) for curve in judged.values])
    finally:
        optuna.logging.set_verbosity(verbosity)


def _by_epoch(curve: np.ndarray) -> dict[int, float]:
    return dict(enumerate(curve.tolist()))


def _epochs_until_pruned(study: optuna.Study, curve: np.ndarray) -> int:
    trial = study.ask()
    for epoch, value in _by_epoch(curve).items():
        trial.report(value, epoch)
        if trial.should_prune():
            break
    # Pruners compare with complete trials only, so no judged member changes what becomes of the next.
    study.tell(trial, state=TrialState.PRUNED)
    return epoch + 1


def halving(judged: Trainings, _known: Trainings, rung: int, share: float) -> np.ndarray:
    """Stop a `share` of an ensemble's members after `rung`, 2 x `rung`, 4 x `rung`, ... epochs: those with the least gain.

    This is successive halving (Jamieson & Talwalkar 2016) by gains, as each class needs its member, however hard it is.
    """
    best = judged.best
    members, epochs = best.shape
    run = np.full(members, epochs)
    for ensemble in np.unique(judged.ensembles):
        training = np.flatnonzero(judged.ensembles == ensemble)
        now = rung
        while now < epochs:
            gains = best[training, now - 1] - best[training, now // 2 - 1]
            order = np.argsort(gains, kind="stable")
            stopped = int(share * len(training))
            run[training[order[:stopped]]] = now
            training, now = training[np.sort(order[stopped:])], 2 * now
    return run


def extrapolated(judged: Trainings, known: Trainings, remaining: float) -> np.ndarray:
    """Stop once the gain that is still expected is at most `remaining`.

    It is predicted by least squares over the known members, from the best value so far and its gain since half of the epochs.
    """
    members, epochs = judged.values.shape
    run = np.full(members, epochs)
    # Backwards, so that the earliest stop is the one that stays.
    for now in range(epochs - 1, 1, -1):
        gains = known.best[:, -1] - known.best[:, now - 1]
        weights, *_ = np.linalg.lstsq(_features(known, now), gains)
        run[_features(judged, now) @ weights <= remaining] = now
    return run


def _features(trainings: Trainings, now: int) -> np.ndarray:
    """Return float64 (M, 3): one, the best value until `now`, and its gain since half of the epochs."""
    best = trainings.best
    return np.stack([np.ones(len(best)), best[:, now - 1], best[:, now - 1] - best[:, now // 2 - 1]], axis=1)


PATIENCE = settings(patience=(1, 2, 3, 4, 5, 6), min_gain=(0.0, 0.002, 0.005, 0.01, 0.02, 0.05))

RULES = (
    ReplayedRule("the first epochs", first_epochs, settings(share=np.arange(0.25, 1, 1 / 12).tolist())),
    ReplayedRule("patience", plateau, PATIENCE),
    ReplayedRule("target", target, settings(target=np.arange(0.6, 1, 0.02).tolist())),
    ReplayedRule("Wilcoxon pruner", wilcoxon, settings(p_threshold=(0.001, 0.01, 0.05, 0.1, 0.2, 0.4))),
    ReplayedRule("percentile pruner", percentile, settings(percentile=(10, 20, 30, 40, 50, 60, 70, 80, 90, 95))),
    ReplayedRule("successive halving", halving, settings(rung=(2, 3, 4, 6, 8), share=(0.2, 0.4, 0.5, 0.6))),
    ReplayedRule(
        "extrapolation", extrapolated, settings(remaining=(0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08))
    ),
)
