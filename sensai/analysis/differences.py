"""Differences in accuracy with their intervals, from the answers that evaluate runs logged.

They compare two ensembles on the same images, or an ensemble and its base model. N images.
"""

from functools import lru_cache

import numpy as np
import pandas as pd
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from sensai.analysis.resampling import paired_difference
from sensai.analysis.runs import read_table
from sensai.analysis.runs.run_ids import whole_ids
from sensai.evaluation.accuracy_difference import Difference
from sensai.files import reading
from sensai.tracking import tags
from sensai.tracking.artifact_names import ANSWERS, VAL_ANSWERS
from sensai.tracking.artifacts import artifact_names, downloaded
from sensai.tracking.tracking_store import tracking_client


class IncomparableError(ValueError):
    """Runs without answers, or with answers to different images."""


def accuracy_difference(
    run_a: str, run_b: str, *, confidence: float = 0.95, seed: int = 0, tracking_uri: str | None = None
) -> Difference:
    """Return the accuracy of the ensemble of one evaluate run less that of another's.

    Args:
        run_a: an evaluate run, or a run that reused its results; its id, whole or shortened.
        run_b: likewise, on the same data.
        confidence: of the interval, in (0, 1).
        seed: of the resamples.
        tracking_uri: of the store that holds both; None: the one that MLflow is set to.

    Raises:
        IncomparableError: a run has no answers, or the runs are on different data.
        ValueError: an id names no run, or several.
    """
    client = tracking_client(tracking_uri)
    first, second = (_evaluation(client, run_id) for run_id in (run_a, run_b))
    answers_a, answers_b = (_answers(client, run) for run in (first, second))
    digest_a, digest_b = (run.data.tags.get(tags.DATA_DIGEST) for run in (first, second))
    if digest_a != digest_b or not answers_a["label"].equals(answers_b["label"]):
        raise IncomparableError(f"runs {run_a} and {run_b} must be evaluations of the same data")
    return paired_difference(_right(answers_a, "ensemble"), _right(answers_b, "ensemble"), confidence, seed)


def base_difference(
    run_id: str,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    tracking_uri: str | None = None,
    answers: str = ANSWERS,
) -> Difference:
    """Return the accuracy of the ensemble of an evaluate run less that of its base model.

    Args:
        run_id: an evaluate run, or a run that reused its results.
        confidence: of the interval, in (0, 1).
        seed: of the resamples.
        tracking_uri: of the store that holds it; None: the one that MLflow is set to.
        answers: name of its table of answers: to test images, or to validation images.

    Raises:
        IncomparableError: the run has no such answers.
    """
    client = tracking_client(tracking_uri)
    table = _answers(client, _evaluation(client, run_id), answers)
    return paired_difference(_right(table, "ensemble"), _right(table, "base"), confidence, seed)


def right_answers(run_id: str, *, tracking_uri: str | None = None) -> np.ndarray:
    """Return a mask of the test images that the ensemble of an evaluate run answered rightly, bool (N,).

    Raises:
        IncomparableError: the run has no answers.
    """
    client = tracking_client(tracking_uri)
    return _right(_answers(client, _evaluation(client, run_id)), "ensemble")


def right_in_group(run_id: str, *, tracking_uri: str | None = None) -> np.ndarray:
    """Return for each validation image the share of its class's members that tell it from their other classes, float64 (N,).

    Args:
        run_id: a run of prune or retrain.
        tracking_uri: of the store that holds it; None: the one that MLflow is set to.

    Raises:
        IncomparableError: the run has no answers.
    """
    client = tracking_client(tracking_uri)
    return _answers(client, _evaluation(client, run_id), VAL_ANSWERS)["right_in_group"].to_numpy(np.float64, copy=True)


def _evaluation(client: MlflowClient, run_id: str) -> Run:
    """Return the run that an id names, whole or shortened, or the run whose results it reused."""
    (whole,) = whole_ids(client, [run_id])
    run = client.get_run(whole)
    reused = run.data.tags.get(tags.REUSED)
    return client.get_run(reused) if reused else run


def _answers(client: MlflowClient, run: Run, name: str = ANSWERS) -> pd.DataFrame:
    """Return the answers of a run: one row an image of the split, with its label and what was answered."""
    return _logged_answers(run.info.run_id, name, client.tracking_uri)


# Several measures need the same answers, and logged answers never change.
@lru_cache(maxsize=8)
def _logged_answers(run_id: str, name: str, tracking_uri: str) -> pd.DataFrame:
    if name not in artifact_names(run_id, tracking_uri):
        stages = "evaluate" if name == ANSWERS else "prune or retrain"
        raise IncomparableError(
            f"run {run_id} has no {name}; it must be a run of {stages}, and one of an earlier version be made anew"
        )
    with downloaded(run_id, name, tracking_uri) as file, reading(f"run {run_id}: its artifact {name!r}"):
        return read_table(file)


def _right(answers: pd.DataFrame, column: str) -> np.ndarray:
    return (answers[column] == answers["label"]).to_numpy()
