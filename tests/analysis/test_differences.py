"""Differences in accuracy: estimates equal counts, intervals equal the test's own bootstrap, bad input is refused."""

from collections.abc import Sequence
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensai.analysis.differences import IncomparableError, accuracy_difference, base_difference
from sensai.analysis.resampling import paired_difference
from sensai.evaluation.accuracy_difference import Difference
from tests.analysis.conftest import Logbook
from tests.helpers.pipeline import FinishedMain

LABELS = [0, 1, 2, 0, 1, 2, 0, 1]
BASE = [0, 1, 2, 0, 1, 2, 0, 0]  # 7 of 8
BETTER = [0, 1, 2, 0, 1, 0, 1, 1]  # 6 of 8
WORSE = [1, 1, 2, 0, 1, 0, 1, 2]  # 4 of 8


def evaluation(logbook: Logbook, ensemble: Sequence[int], labels: Sequence[int] = LABELS, digest: str = "d") -> str:
    run_id = logbook.run({"stage": "evaluate", "data_digest": digest})
    answers = pd.DataFrame({"label": labels, "ensemble": ensemble, "base": BASE})
    logbook.client.log_text(run_id, answers.to_csv(index=False), "answers.csv")
    return run_id


def test_the_estimate_is_the_difference_of_the_accuracies(logbook: Logbook) -> None:
    better, worse = evaluation(logbook, BETTER), evaluation(logbook, WORSE)
    found = accuracy_difference(better, worse)
    assert (found.difference, found.images) == (6 / 8 - 4 / 8, 8)
    assert base_difference(better).difference == 6 / 8 - 7 / 8
    assert found.low < found.difference < found.high
    swapped = accuracy_difference(worse, better)
    assert swapped.difference == -found.difference


def test_a_run_and_itself_differ_by_nothing(logbook: Logbook) -> None:
    run_id = evaluation(logbook, WORSE)
    assert accuracy_difference(run_id, run_id) == Difference(0.0, 0.0, 0.0, 8)


def test_a_run_that_was_answered_from_the_cache_stands_for_the_one_that_answered(logbook: Logbook) -> None:
    answer, other = evaluation(logbook, BETTER), evaluation(logbook, WORSE)
    asked = logbook.run({"reused": answer})
    assert accuracy_difference(asked, other) == accuracy_difference(answer, other)
    assert base_difference(asked) == base_difference(answer)


def test_the_store_can_be_named(logbook: Logbook, store_uri: str, empty_database: Path, tmp_path: Path) -> None:
    run_id = evaluation(logbook, BETTER)
    expected = base_difference(run_id)
    (tmp_path / "other.db").write_bytes(empty_database.read_bytes())
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/other.db")
    assert base_difference(run_id, tracking_uri=store_uri) == expected
    with pytest.raises(ValueError, match="names none"):
        base_difference(run_id)


@pytest.mark.parametrize("other", [{"digest": "another"}, {"labels": LABELS[::-1]}], ids=["digest", "labels"])
def test_other_data_are_refused(logbook: Logbook, other: dict) -> None:
    first, second = evaluation(logbook, BETTER), evaluation(logbook, BETTER, **other)
    with pytest.raises(IncomparableError, match=f"{first} and {second} must be evaluations of the same data"):
        accuracy_difference(first, second)


def test_a_run_without_answers_is_refused(logbook: Logbook) -> None:
    run_id = logbook.run({"stage": "evaluate"})
    with pytest.raises(ValueError, match=rf"run {run_id} has no answers\.csv; it must be a run of evaluate"):
        base_difference(run_id)


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_the_interval_is_that_of_images_drawn_again(confidence: float) -> None:
    generator = np.random.default_rng(1)
    right_a, right_b = generator.random(400) < 0.9, generator.random(400) < 0.8
    found = paired_difference(right_a, right_b, confidence)
    drawn = generator.integers(0, 400, (4000, 400))
    means = right_a[drawn].mean(1) - right_b[drawn].mean(1)
    tail = (1 - confidence) / 2
    # Both are of random resamples; a standard error is about 0.025.
    assert (found.low, found.high) == pytest.approx(np.quantile(means, [tail, 1 - tail]), abs=0.004)
    assert found.difference == pytest.approx(right_a.mean() - right_b.mean())


def test_pairs_that_agree_are_more_certain_than_pairs_that_do_not() -> None:
    right = np.arange(200) % 5 > 0
    nearly, shuffled = right.copy(), np.random.default_rng(0).permutation(right)
    nearly[:10] = False
    shuffled[np.flatnonzero(shuffled)[:8]] = False
    together, apart = paired_difference(right, nearly), paired_difference(right, shuffled)
    assert together.difference == apart.difference == 8 / 200
    assert together.high - together.low < apart.high - apart.low


def test_a_seed_gives_the_same_interval_and_another_nearly_so() -> None:
    right_a, right_b = np.arange(300) % 3 > 0, np.arange(300) % 7 > 0
    first = paired_difference(right_a, right_b)
    assert first == paired_difference(right_a, right_b, seed=0)
    assert paired_difference(right_a, right_b, seed=1).low == pytest.approx(first.low, abs=0.01)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("count", [1, 2, 50])
def test_where_all_images_differ_alike_the_interval_is_the_estimate(value: bool, count: int) -> None:
    first, second = np.full(count, value), np.full(count, not value)
    sign = 1.0 if value else -1.0
    assert paired_difference(first, second) == Difference(sign, sign, sign, count)
    assert paired_difference(first, first) == Difference(0.0, 0.0, 0.0, count)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_the_interval_holds_the_estimate(pairs: list[tuple[bool, bool]]) -> None:
    right_a, right_b = np.array(pairs).T
    found = paired_difference(right_a, right_b)
    assert -1 <= found.low <= found.difference <= found.high <= 1
    assert found.images == len(pairs)


@pytest.mark.processes
def test_of_main(finished: FinishedMain) -> None:
    run_id = finished.upstream("evaluate")
    metrics = finished.place.run(run_id).data.metrics
    found = base_difference(run_id)
    assert found.difference == pytest.approx(-metrics["accuracy_drop"])
    assert found.images == 30
    assert accuracy_difference(run_id, run_id).difference == 0
