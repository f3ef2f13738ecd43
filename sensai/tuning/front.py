"""Results of a study: the table of its trials, the front, the hypervolume, importances, and the configuration to take."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import optuna
import pandas as pd
from optuna import Study
from optuna.exceptions import ExperimentalWarning
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial
from optuna.visualization import plot_hypervolume_history

from sensai.tracking.metric_names import CALIBRATED_VAL_ACCURACY
from sensai.tuning import studies
from sensai.tuning.goals import METRICS, RUN, Direction
from sensai.tuning.halving import configuration
from sensai.tuning.space import EPOCHS

_DIRECTIONS: dict[str, Direction] = {CALIBRATED_VAL_ACCURACY: "maximize", "cost": "minimize"}
_FEWEST_TO_WEIGH = 4


_Order = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class Choice:
    """The configuration to take.

    Attributes:
        row: a row of the table of trials.
        accuracy_drop: loss against the base model, on validation data.
        within: True if it meets the limit; else it is the one that comes nearest.
    """

    row: pd.Series
    accuracy_drop: float
    within: bool


def trial_table(study: Study) -> pd.DataFrame:
    """Return one row a result with its configuration, in the order in which the study received them.

    Returns:
        Columns trial (number), run_id, source (`logged` before the study asked for it, or `tune`), epochs (that it has had),
        calibrated_val_accuracy (fraction), cost (share of the base model's), further metrics, `params.<parameter>`.
    """
    rows = [_row(trial) for trial in studies.complete(study) if studies.REPEATS not in trial.user_attrs]
    fixed = ["trial", "run_id", "source", EPOCHS, *_DIRECTIONS]
    # Two workers may have reported the same run.
    frame = pd.DataFrame(rows, columns=None if rows else fixed).drop_duplicates("run_id", ignore_index=True)
    return frame[[*fixed, *frame.columns.drop(fixed)]]


def _row(trial: FrozenTrial) -> dict[str, Any]:
    metrics = trial.user_attrs[METRICS]
    return {
        "trial": trial.number,
        "run_id": trial.user_attrs[RUN],
        "source": "logged" if studies.LOGGED in trial.user_attrs else "tune",
        **metrics,
        **{f"params.{name}": value for name, value in configuration(trial).items()},
    }


def front(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that no other row dominates, the cheapest first."""
    best = [trial.number for trial in _bare_study(table).best_trials]
    return table.iloc[best].sort_values(["cost", "trial"], ignore_index=True)


def hypervolumes(table: pd.DataFrame, most_cost: float) -> pd.DataFrame:
    """Return the hypervolume of the front after each trial, for accuracy above 0 and cost below `most_cost`.

    Returns:
        Columns trial, hypervolume (in accuracy times cost).
    """
    if table.empty:
        return pd.DataFrame({"trial": pd.Series(dtype="int64"), "hypervolume": pd.Series(dtype="float64")})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        (curve,) = plot_hypervolume_history(_bare_study(table), [0.0, most_cost]).data
    return pd.DataFrame({"trial": table["trial"].to_numpy(), "hypervolume": pd.Series(curve.y, dtype="float64")})


def importances(study: Study) -> pd.DataFrame:
    """Return how much each parameter matters for accuracy and for cost, as shares (PED-ANOVA).

    Returns:
        Columns parameter, calibrated_val_accuracy, cost; no row if there are too few trials.
    """
    known = [trial for trial in studies.complete(study) if METRICS in trial.user_attrs]
    columns = {}
    if len(known) >= _FEWEST_TO_WEIGH:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            columns = {name: get_param_importances(study, target=partial(_metric, name)) for name in _DIRECTIONS}
    frame = pd.DataFrame(columns, columns=list(_DIRECTIONS), dtype="float64")
    return frame.sort_values(CALIBRATED_VAL_ACCURACY, ascending=False).rename_axis("parameter").reset_index()


def _metric(name: str, trial: FrozenTrial) -> float:
    return float(trial.user_attrs[METRICS][name])


def fidelity_correlations(study: Study) -> pd.DataFrame:
    """Return the rank correlation between results with few and with more epochs, for configurations that have both.

    Returns:
        Columns epochs, more_epochs, configurations, spearman (of their calibrated_val_accuracy; NaN of fewer than two).
    """
    by_epochs: dict[int, list[FrozenTrial]] = {}
    for trial in studies.complete(study):
        by_epochs.setdefault(trial.user_attrs[METRICS][EPOCHS], []).append(trial)
    rows = []
    for few, more in combinations(sorted(by_epochs), 2):
        pairs = pd.DataFrame(_pairs(by_epochs[few], by_epochs[more]), columns=["few", "more"], dtype="float64")
        if len(pairs):
            rows.append((int(few), int(more), len(pairs), pairs["few"].corr(pairs["more"], method="spearman")))
    return pd.DataFrame(rows, columns=["epochs", "more_epochs", "configurations", "spearman"])


def _pairs(few: Sequence[FrozenTrial], more: Sequence[FrozenTrial]) -> list[tuple[float, float]]:
    """Return the accuracies of each configuration that is in both; with more epochs it may have further parameters."""
    found = []
    for trial in more:
        own = configuration(trial).items()
        cheap = next((each for each in few if configuration(each).items() <= own), None)
        if cheap is not None and studies.REPEATS not in trial.user_attrs:
            found.append((_metric(CALIBRATED_VAL_ACCURACY, cheap), _metric(CALIBRATED_VAL_ACCURACY, trial)))
    return found


def cheapest(table: pd.DataFrame, base_accuracy: float, max_drop: float) -> Choice | None:
    """Return the cheapest trial that loses at most `max_drop`; of equal costs the most accurate.

    If no trial is within the limit, it is the nearest one.

    Args:
        table: of trials.
        base_accuracy: of the base model, on validation data.
        max_drop: as a fraction.

    Returns:
        None if there is no trial.
    """
    # Rounding errors must not make fractions of the same images differ.
    within = (base_accuracy - table[CALIBRATED_VAL_ACCURACY]).round(12) <= max_drop
    return _choice(table, base_accuracy, within, _by_cost, _by_accuracy)


def most_accurate(table: pd.DataFrame, base_accuracy: float, limit: float) -> Choice | None:
    """Return the most accurate trial that costs at most `limit`; of equal accuracies the cheapest.

    If no trial is within the limit, it is the nearest one.
    """
    return _choice(table, base_accuracy, table["cost"] <= limit, _by_accuracy, _by_cost)


def _choice(
    table: pd.DataFrame, base_accuracy: float, within: pd.Series, best: _Order, nearest: _Order
) -> Choice | None:
    if table.empty:
        return None
    found = bool(within.any())
    row = (best(table[within]) if found else nearest(table)).iloc[0]
    return Choice(row, base_accuracy - float(row[CALIBRATED_VAL_ACCURACY]), found)


def _by_cost(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(["cost", CALIBRATED_VAL_ACCURACY], ascending=[True, False], kind="stable")


def _by_accuracy(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values([CALIBRATED_VAL_ACCURACY, "cost"], ascending=[False, True], kind="stable")


def _bare_study(table: pd.DataFrame) -> Study:
    """Return a study with only accuracy and cost, row for row, whatever values the original study has."""
    study = optuna.create_study(directions=list(_DIRECTIONS.values()))
    study.add_trials([optuna.create_trial(values=values) for values in table[list(_DIRECTIONS)].to_numpy().tolist()])
    return study
