"""Log the results of a study on its run: tables, figures, best.json."""

import json
import logging
from typing import Any

import pandas as pd
from optuna import Study

from sensai.analysis.figures import static_tuning
from sensai.config import TuneConfig
from sensai.tracking import Run, Store, tags
from sensai.tracking.artifact_names import (
    BEST,
    FIDELITIES,
    FRONT,
    FRONT_FIGURE,
    HYPERVOLUME,
    HYPERVOLUME_FIGURE,
    IMPORTANCES,
    IMPORTANCES_FIGURE,
    SLICES_FIGURE,
    TRIALS,
)
from sensai.tracking.metric_names import CALIBRATED_VAL_ACCURACY
from sensai.tuning.front import (
    Choice,
    cheapest,
    fidelity_correlations,
    front,
    hypervolumes,
    importances,
    most_accurate,
    trial_table,
)
from sensai.tuning.space import EPOCHS, Values

_log = logging.getLogger(__name__)
_SHOWN = ["trial", EPOCHS, CALIBRATED_VAL_ACCURACY, "cost", "flops_speedup"]


def log_findings(study: Study, config: TuneConfig, base_accuracy: float, classes: int, run: Run) -> Choice | None:
    """Log what the study knows; return what it recommends, None where it knows nothing.

    Args:
        study: all its trials count, those of other workers too.
        config: of tune.
        base_accuracy: of the base model, on validation data.
        classes: how many the data have; the highest cost that counts is a base model for each.
        run: the study's run.
    """
    table = trial_table(study)
    best = front(table)
    most_cost = float(classes) if config.objective == "flops_total" else 1.0
    volumes = hypervolumes(table, most_cost)
    weights, correlations = importances(study), fidelity_correlations(study)
    frames = {
        TRIALS: table,
        FRONT: best,
        HYPERVOLUME: volumes,
        IMPORTANCES: weights,
        FIDELITIES: correlations,
    }
    for name, frame in frames.items():
        run.log_frame(frame, name)
    cost = f"{config.objective} as a share of the base model's"
    choice = _recommended(table, config, base_accuracy)
    if choice is not None:
        run.log_figure(static_tuning.front(table, best, base_accuracy, cost), FRONT_FIGURE)
        run.log_figure(static_tuning.hypervolume(volumes), HYPERVOLUME_FIGURE)
        run.log_figure(static_tuning.slices(table, cost), SLICES_FIGURE)
        if len(weights):
            run.log_figure(static_tuning.importances(weights, config.objective), IMPORTANCES_FIGURE)
        run.log_metrics(
            {
                **{f"best_{name}": choice.row[name] for name in (CALIBRATED_VAL_ACCURACY, "val_accuracy")},
                "best_flops_speedup": choice.row["flops_speedup"],
                "hypervolume": volumes["hypervolume"].iloc[-1],
            }
        )
    run.log_metrics({"trials": len(table), "base_val_accuracy": base_accuracy})
    _log.info("the front:\n%s", best[best.columns.intersection(_SHOWN)].round(4).to_string(index=False))
    return choice


def log_best(choice: Choice | None, config: TuneConfig, base_accuracy: float, store: Store, run: Run) -> Values | None:
    """Log best.json; return the configuration that is recommended, None where nothing is within what is allowed."""
    if choice is None:
        run.log_json({"within": False, "reason": "there is no finished trial"}, BEST)
        _log.warning("no trial has finished: nothing to recommend")
        return None
    values = configuration_of(choice.row, store)
    content = {
        "within": choice.within,
        "rule": _rule(config),
        "base_val_accuracy": base_accuracy,
        "accuracy_drop": choice.accuracy_drop,
        "objective": config.objective,
        **_plain(choice.row),
        "parameters": values,
    }
    run.log_json(content, BEST)
    verdict = _rule(config) if choice.within else f"nothing is within ({_rule(config)}); the nearest"
    row = choice.row
    _log.info(
        "%s: trial %d, calibrated validation accuracy %.4f (base model %.4f), %s %.4f of the base model's",
        *(verdict, row["trial"], row[CALIBRATED_VAL_ACCURACY], base_accuracy, config.objective, row["cost"]),
    )
    return values if choice.within else None


def _recommended(table: pd.DataFrame, config: TuneConfig, base_accuracy: float) -> Choice | None:
    if config.limit is not None:
        return most_accurate(table, base_accuracy, config.limit)
    if config.min_val_accuracy is not None:
        return cheapest(table, base_accuracy, base_accuracy - config.min_val_accuracy)
    return cheapest(table, base_accuracy, config.max_accuracy_drop)


def _rule(config: TuneConfig) -> str:
    if config.limit is not None:
        return f"the most accurate whose {config.objective} is at most {config.limit:g} of the base model's"
    if config.min_val_accuracy is not None:
        return f"the cheapest with a {CALIBRATED_VAL_ACCURACY} of at least {config.min_val_accuracy:g}"
    return f"the cheapest that loses at most {config.max_accuracy_drop:g} against the base model on validation data"


def configuration_of(row: pd.Series, store: Store) -> Values:
    """Return the configuration of the last run of a trial, with the epochs that it had."""
    return {**json.loads(store.tags_of(row["run_id"])[tags.CONFIG]), EPOCHS: int(row[EPOCHS])}


def _plain(row: pd.Series) -> dict[str, Any]:
    """Return a row as plain JSON values, without its parameters, which best.json has in full."""
    kept = row[[name for name in row.index if not str(name).startswith("params.")]].dropna()
    return json.loads(kept.to_json())
