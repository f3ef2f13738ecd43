"""The answers of evaluations as they are collected, and compared when their store is gone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sensai.analysis import results
from sensai.analysis.collected_answers import collected_answers
from sensai.analysis.contrasts import contrast
from sensai.analysis.differences import accuracy_difference
from sensai.analysis.retrainings import retrainings
from tests.analysis.conftest import Logbook
from tests.analysis.test_retrainings import evaluated, retraining
from tests.helpers.pipeline import FinishedMain

LABELS = [0, 1, 2, 0, 1, 2, 0, 1]
BASE = [0, 1, 2, 0, 1, 2, 0, 0]
COLUMNS = ["run_id", "role", "combination", "labels", "answers"]


def answered(logbook: Logbook, evaluate_run: str, answers: list[int] = LABELS) -> None:
    """Log the answers of an evaluate run."""
    table = pd.DataFrame({"label": LABELS, "ensemble": answers, "base": BASE})
    logbook.client.log_text(evaluate_run, table.to_csv(index=False), "answers.csv")


def test_two_rows_an_evaluation_that_logged_its_answers(logbook: Logbook) -> None:
    evaluated(logbook, retraining(logbook, 1), 0.5)
    run_id = evaluated(logbook, retraining(logbook, 2), 0.75)
    answered(logbook, run_id, LABELS[::-1])
    retraining(logbook, 3)
    frame = collected_answers(retrainings())
    assert list(frame.columns) == COLUMNS
    assert frame["run_id"].tolist() == [run_id] * 2
    assert frame["role"].tolist() == ["ensemble", "base"]
    assert [each.tolist() for each in frame["labels"]] == [LABELS] * 2
    assert [each.tolist() for each in frame["answers"]] == [LABELS[::-1], BASE]
    assert {each.dtype for each in (*frame["labels"], *frame["answers"])} == {np.dtype("uint16")}


def test_without_answers_there_are_columns_without_rows(logbook: Logbook) -> None:
    evaluated(logbook, retraining(logbook, 1), 0.5)
    assert list(collected_answers(retrainings()).columns) == COLUMNS
    assert collected_answers(retrainings()).empty


def test_any_two_are_compared_from_the_files_alone(logbook: Logbook, tmp_path: Path) -> None:
    first, second = (evaluated(logbook, retraining(logbook, number), 0.5) for number in (1, 2))
    answered(logbook, first)
    answered(logbook, second, [0, 1, 2, 0, 1, 2, 1, 0])
    results.export(tmp_path)
    stored = pd.read_parquet(tmp_path / "answers.parquet").assign(seed=0)
    own = stored[stored["role"] == "ensemble"]
    found = contrast(own[own["run_id"] == first], own[own["run_id"] == second])
    assert (found.difference, found.images) == (2 / 8, 8)
    assert found.difference == accuracy_difference(first, second).difference


@pytest.mark.processes
def test_of_main(finished: FinishedMain) -> None:
    frame = collected_answers(retrainings()).set_index("role")
    metrics = finished.place.run(finished.upstream("evaluate")).data.metrics
    for role, name in (("ensemble", "accuracy"), ("base", "base_accuracy")):
        row = frame.loc[role]
        assert np.mean(row["labels"] == row["answers"]) == metrics[name]
    assert set(frame["run_id"]) == {finished.upstream("evaluate")}
