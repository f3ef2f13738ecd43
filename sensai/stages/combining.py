"""Which class probabilities the ensemble answers with: all methods of `combine` fitted on validation data and judged side by
side, the chosen one stored.
"""

import json
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis import plots
from sensai import evaluation
from sensai.data.dataset import Split
from sensai.ensemble import Ensemble
from sensai.ensemble.calibration import RAW, Calibration, cross_fitted, fit, methods_for, rejection_threshold
from sensai.errors import InputError
from sensai.stages.configs import EvaluateConfig, GroupingStudyConfig, MainConfig, TuneConfig
from sensai.stages.inputs import dataset_of
from sensai.tracking import Run, Store

# By what measured best on CIFAR-10 and digits, see docs/experiments.md.
_PREFERRED = ("logistic", "vector", RAW.method)
_CALIBRATION = "calibration.json"
_BASE = "base model"
# That `evaluate` logs anyway.
_LOGGED = "accuracy"


@dataclass(frozen=True)
class Answered:
    """What was said about a split.

    Attributes:
        outputs: of the members.
        base: float64 (N, K), the base model's class probabilities.
    """

    outputs: evaluation.Outputs
    base: np.ndarray


def validation_split(config: EvaluateConfig | MainConfig | GroupingStudyConfig | TuneConfig) -> Split | None:
    """The validation split, None where it has too few images for any fit.

    Raises:
        InputError: the parameters need one.
    """
    val = dataset_of(config).val
    # What is fitted is judged on an image that was held out.
    if val is not None and len(val) > 1:
        return val
    if config.combine not in (None, RAW.method):
        raise InputError(
            f"combine={config.combine!r}: is fitted on validation data, and dataset={config.dataset!r} has none; "
            f"without them it is {RAW.method}"
        )
    if config.reject is not None:
        raise InputError(
            f"reject={config.reject:g}: is a share of the validation data, and dataset={config.dataset!r} has none"
        )
    if config.int8:
        raise InputError(
            f"int8=true: takes the ranges of activations from validation data, and dataset={config.dataset!r} has none"
        )
    return None


def calibrate(
    ensemble: Ensemble, test: Answered, val: Answered | None, config: EvaluateConfig, run: Run
) -> Calibration:
    """The calibration that the ensemble answers with; all that can be fitted are logged side by side."""
    fitted = {RAW.method: RAW}
    if val is not None:
        names = methods_for(ensemble.groups)
        if config.combine is not None and config.combine not in (RAW.method, *names):
            names.append(config.combine)
        fitted |= {name: fit(name, val.outputs.members, ensemble.groups, val.outputs.labels) for name in names}
    tested = {name: each(test.outputs.members, ensemble.groups) for name, each in fitted.items()}
    method: str = config.combine or next(name for name in _PREFERRED if name in fitted)
    _log_comparison(tested, method, ensemble, test, val, run)
    chosen = fitted[method]
    if val is not None and config.reject is not None:
        validated = chosen(val.outputs.members, ensemble.groups)
        threshold = rejection_threshold(validated, config.reject)
        run.log_metrics(evaluation.rejection_metrics(tested[method], test.outputs.labels, threshold))
        chosen = replace(chosen, threshold=threshold)
    run.log_json(chosen.to_json(), _CALIBRATION)
    return chosen


def load(store: Store, run_id: str) -> Calibration:
    """The calibration that an evaluate run has chosen."""
    with store.downloaded(run_id, _CALIBRATION) as file:
        return Calibration.from_json(json.loads(file.read_text()))


def _log_comparison(
    tested: dict[str, np.ndarray],
    method: str,
    ensemble: Ensemble,
    test: Answered,
    val: Answered | None,
    run: Run,
) -> None:
    """All methods and the base model: the table, the metrics of each, and the reliability diagram."""
    tables = {"": _judged(tested | {_BASE: test.base}, test.outputs.labels)}
    if val is not None:
        labels = val.outputs.labels
        validated = {name: cross_fitted(name, val.outputs.members, ensemble.groups, labels) for name in tested}
        tables["val_"] = _judged(validated | {_BASE: val.base}, labels)
    table = pd.concat([each.add_prefix(split) for split, each in tables.items()], axis=1)
    run.log_frame(table.rename_axis("combine").reset_index(), "combine.csv")
    own = {f"{metric}_{name}": table[metric][name] for name in tested for metric in table}
    further = table.columns.drop(_LOGGED)
    chosen = {metric: table[metric][method] for metric in further}
    base = {f"base_{metric}": table[metric][_BASE] for metric in further}
    run.log_metrics(own | chosen | base)
    curves = {
        name: evaluation.reliability_curve(probabilities, test.outputs.labels)
        for name, probabilities in (tested | {_BASE: test.base}).items()
    }
    run.log_figure(plots.reliability(curves, "Test images: largest probability and accuracy"), "reliability.png")


def _judged(probabilities: dict[str, np.ndarray], labels: np.ndarray) -> pd.DataFrame:
    """One row of `probability_metrics` for each."""
    rows = {name: evaluation.probability_metrics(each, labels) for name, each in probabilities.items()}
    return pd.DataFrame.from_dict(rows, orient="index")
