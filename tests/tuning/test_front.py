"""Front, hypervolume, ranks and the choice equal their definitions."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from sensai.tuning.front import (
    cheapest,
    fidelity_correlations,
    front,
    hypervolumes,
    importances,
    most_accurate,
    trial_table,
)
from sensai.tuning.halving import best_first, domination_ranks
from tests.helpers import toy_study

# There are few values, so that many are equal.
point = st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.9]), st.sampled_from([0.1, 0.4, 0.8, 1.2]))
points = st.lists(point, min_size=1, max_size=12)


def table(rows: list[tuple[float, float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [(number, f"run {number}", accuracy, cost) for number, (accuracy, cost) in enumerate(rows)],
        columns=["trial", "run_id", "calibrated_val_accuracy", "cost"],
    )


def dominated(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return other[0] >= one[0] and other[1] <= one[1] and other != one


@settings(deadline=None, max_examples=40)
@given(points)
def test_the_front_is_what_nothing_dominates(rows: list[tuple[float, float]]) -> None:
    expected = [number for number, row in enumerate(rows) if not any(dominated(row, other) for other in rows)]
    found = front(table(rows))
    assert sorted(found["trial"]) == expected
    assert found["cost"].is_monotonic_increasing


@settings(deadline=None, max_examples=40)
@given(points)
def test_the_hypervolume_is_the_area_that_is_dominated(rows: list[tuple[float, float]]) -> None:
    found = hypervolumes(table(rows), most_cost=1.0)["hypervolume"]
    # The area in cells of 0.1 by 0.1, whose corners are the values.
    accuracies, costs = np.meshgrid(np.arange(10) / 10 + 0.05, np.arange(10) / 10 + 0.05)
    for count, area in enumerate(found, start=1):
        covered = [(accuracies < accuracy) & (costs > cost) for accuracy, cost in rows[:count]]
        assert area == pytest.approx(np.any(covered, axis=0).sum() / 100)


@settings(deadline=None, max_examples=40)
@given(points)
def test_ranks_are_fronts_taken_off_one_after_another(rows: list[tuple[float, float]]) -> None:
    ranks = domination_ranks(np.array(rows) * [-1, 1])
    left = dict(enumerate(rows))
    for rank in range(max(ranks) + 1):
        best = {number for number, row in left.items() if not any(dominated(row, other) for other in left.values())}
        assert best == {number for number in left if ranks[number] == rank}
        left = {number: row for number, row in left.items() if number not in best}
    assert not left


def test_of_equal_rank_the_ends_come_first_and_then_the_least_crowded() -> None:
    losses = np.array([[0.0, 1.0], [0.5, 0.5], [0.55, 0.45], [0.6, 0.4], [1.0, 0.0], [1.0, 1.0]])
    order = best_first(losses)
    assert set(order[:2]) == {0, 4}
    assert order[-2:] == [2, 5]


@pytest.mark.parametrize(
    ("rows", "trial", "within"),
    [
        # The cheapest within the limit, although others are more accurate.
        ([(0.91, 0.5), (0.905, 0.3), (0.95, 0.9), (0.5, 0.1)], 1, True),
        # A value exactly at the limit is within it, despite the rounding of 0.9 - 0.89.
        ([(0.89, 0.3), (0.9, 0.5)], 0, True),
        # Of equal costs, the most accurate counts.
        ([(0.9, 0.3), (0.92, 0.3)], 1, True),
        # None is within the limit: the nearest counts, and of those the cheapest.
        ([(0.8, 0.5), (0.85, 0.7), (0.85, 0.6)], 2, False),
    ],
)
def test_which_is_recommended(rows: list[tuple[float, float]], trial: int, within: bool) -> None:
    choice = cheapest(table(rows), base_accuracy=0.9, max_drop=0.01)
    assert choice is not None
    assert (choice.row["trial"], choice.within) == (trial, within)
    assert choice.accuracy_drop == pytest.approx(0.9 - rows[trial][0])


@pytest.mark.parametrize(
    ("rows", "trial", "within"),
    [
        ([(0.8, 0.2), (0.85, 0.4), (0.95, 0.6)], 1, True),
        ([(0.8, 0.3), (0.8, 0.2)], 1, True),
        ([(0.95, 0.6), (0.9, 0.5)], 1, False),
    ],
)
def test_which_is_recommended_below_a_limit(rows: list[tuple[float, float]], trial: int, within: bool) -> None:
    choice = most_accurate(table(rows), base_accuracy=0.9, limit=0.4)
    assert choice is not None
    assert (choice.row["trial"], choice.within) == (trial, within)


def test_of_nothing_nothing_is_recommended() -> None:
    empty = table([])
    assert cheapest(empty, 0.9, 0.01) is None
    assert most_accurate(empty, 0.9, 0.5) is None
    assert front(empty).empty
    assert hypervolumes(empty, 1.0).empty


def test_the_table_of_a_study() -> None:
    study = toy_study.study()
    assert trial_table(study).empty
    assert importances(study).empty
    toy_study.worker(study, rungs=(0, 2, 8), eta=2).run(14)
    found = trial_table(study)
    assert len(found) == 14
    assert set(found["epochs"]) == {0, 2, 8}
    assert (found["params.loss"].notna() == (found["epochs"] > 0)).all()
    weights = importances(study).set_index("parameter")
    assert weights["cost"].idxmax() == "ratio"
    assert weights["calibrated_val_accuracy"].sum() == pytest.approx(1)
    # A configuration that had several epochs is compared with each larger number.
    correlations = fidelity_correlations(study).set_index(["epochs", "more_epochs"])
    pairs = found[found["epochs"] == 0].merge(found[found["epochs"] == 2], on="params.ratio")
    assert correlations.loc[(0, 2), "configurations"] == len(pairs) > 1
    assert correlations.loc[(0, 2), "spearman"] == pytest.approx(
        spearmanr(pairs["calibrated_val_accuracy_x"], pairs["calibrated_val_accuracy_y"]).statistic
    )
