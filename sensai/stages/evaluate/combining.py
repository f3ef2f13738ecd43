"""Fit all methods of `combine` on validation data, judge them side by side, and store the one that is chosen."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sensai import evaluation
from sensai.analysis.figures import static
from sensai.config import EvaluateConfig, GroupingStudyConfig, MainConfig, TuneConfig
from sensai.data.dataset import Dataset, Split
from sensai.ensemble import Ensemble
from sensai.ensemble.calibration import RAW, Calibration, rejection_threshold
from sensai.errors import InputError
from sensai.evaluation.combinations import BASE_ROW, Answered, compared, fit_combinations
from sensai.tracking import Run, Store
from sensai.tracking.artifact_names import CALIBRATION, COMBINATIONS, RELIABILITY_FIGURE, VAL_ANSWERS

# `evaluate` logs it anyway.
_LOGGED = "accuracy"


def validation_split(
    config: EvaluateConfig | MainConfig | GroupingStudyConfig | TuneConfig, data: Dataset
) -> Split | None:
    """Return the validation split, None where it has too few images for any fit.

    Raises:
        InputError: the parameters need one.
    """
    # Every method is fitted on some of the images and judged on others.
    if data.val is not None and len(data.val) > 1:
        return data.val
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
    """Return the calibration that the ensemble answers with; log all that can be fitted, side by side."""
    combinations = fit_combinations(ensemble.groups, None if val is None else val.outputs, config.combine)
    fitted, held_out, method = combinations.fitted, combinations.held_out, combinations.method
    tested = {name: each(test.outputs.members, ensemble.groups) for name, each in fitted.items()}
    table = compared(tested, held_out, test, val)
    _log_comparison(table, method, run)
    run.log_figure(_reliability(tested, test), RELIABILITY_FIGURE)
    if val is not None:
        run.log_frame(_val_answers(held_out[method], val), VAL_ANSWERS)
    chosen = fitted[method]
    if val is not None and config.reject is not None:
        validated = chosen(val.outputs.members, ensemble.groups)
        threshold = rejection_threshold(validated, config.reject)
        run.log_metrics(evaluation.rejection_metrics(tested[method], test.outputs.labels, threshold))
        chosen = replace(chosen, threshold=threshold)
    run.log_json(chosen.to_json(), CALIBRATION)
    return chosen


def load(store: Store, run_id: str) -> Calibration:
    """Return the calibration that an evaluate run has chosen."""
    with store.downloaded(run_id, CALIBRATION) as file:
        return Calibration.from_json(json.loads(file.read_text()))


def _val_answers(held_out: np.ndarray, val: Answered) -> pd.DataFrame:
    """Return class indices, one row a validation image: those behind `val_accuracy` and `base_val_accuracy`."""
    return pd.DataFrame({"label": val.outputs.labels, "ensemble": held_out.argmax(1), "base": val.base.argmax(1)})


def _log_comparison(table: pd.DataFrame, method: str, run: Run) -> None:
    """Log the table; each method's metrics with its name as suffix; the chosen one's and the base model's without."""
    run.log_frame(table.rename_axis("combine").reset_index(), COMBINATIONS)
    own = {f"{metric}_{name}": table[metric][name] for name in table.index.drop(BASE_ROW) for metric in table}
    further = table.columns.drop(_LOGGED)
    chosen = {metric: table[metric][method] for metric in further}
    base = {f"base_{metric}": table[metric][BASE_ROW] for metric in further}
    run.log_metrics(own | chosen | base)


def _reliability(tested: dict[str, np.ndarray], test: Answered) -> Figure:
    curves = {
        name: evaluation.reliability_curve(probabilities, test.outputs.labels)
        for name, probabilities in (tested | {BASE_ROW: test.base}).items()
    }
    return static.reliability(curves, "Test images: largest probability and accuracy")
