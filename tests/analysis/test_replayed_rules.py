"""Every replayed rule against what all promise, and each against a direct computation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from sensai.analysis import replayed_rules
from sensai.analysis.replayed_rules import RULES, ReplayedRule, Trainings

EPOCHS = 12


def trainings(seed: int, ensembles: int = 3, members: int = 4, epochs: int = EPOCHS) -> Trainings:
    """Return curves that rise to limits of their own, with noise."""
    rng = np.random.default_rng(seed)
    count = ensembles * members
    limits, speeds = rng.uniform(0.6, 0.95, (count, 1)), rng.uniform(0.1, 0.8, (count, 1))
    values = (
        0.5 + (limits - 0.5) * (1 - np.exp(-speeds * np.arange(1, epochs + 1))) + rng.normal(0, 0.01, (count, epochs))
    )
    return Trainings(np.repeat(np.arange(ensembles), members), values)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_no_rule_looks_ahead(rule: ReplayedRule) -> None:
    """Values after the stop of a member change nothing."""
    judged, known = trainings(0), trainings(1)
    rng = np.random.default_rng(2)
    stops = set()
    for setting in rule.settings:
        run = rule.epochs_run(judged, known, **setting)
        assert run.shape == judged.ensembles.shape
        assert run.min() >= 1
        assert run.max() <= EPOCHS
        later = np.arange(EPOCHS) >= run[:, None]
        other = Trainings(judged.ensembles, np.where(later, rng.uniform(0, 1, later.shape), judged.values))
        np.testing.assert_array_equal(rule.epochs_run(other, known, **setting), run)
        stops |= set(run.tolist())
    # The settings tell members that stop early from others that do not.
    assert len(stops) > 2


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_order_of_ensembles_changes_nothing(rule: ReplayedRule) -> None:
    judged, known = trainings(0), trainings(1)
    for setting in rule.settings[::3]:
        run = rule.epochs_run(judged, known, **setting)
        backwards = rule.epochs_run(Trainings(judged.ensembles[::-1], judged.values[::-1]), known, **setting)
        np.testing.assert_array_equal(backwards[::-1], run)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), kept=st.integers(1, 99))
def test_the_percentile_pruner_compares_the_best_value_with_those_of_the_epoch(seed: int, kept: int) -> None:
    judged, known = trainings(seed, 1), trainings(seed + 1)
    limits = np.percentile(known.values, 100 - kept, axis=0)
    below = judged.best < limits
    expected = np.where(below.any(axis=1), below.argmax(axis=1) + 1, EPOCHS)
    np.testing.assert_array_equal(replayed_rules.percentile(judged, known, kept), expected)


def test_the_wilcoxon_pruner_tests_against_the_best_known_member() -> None:
    judged, known = trainings(0), trainings(1)
    best = known.values[known.values.max(axis=1).argmax()]

    def stop(curve: np.ndarray) -> int:
        for epochs in range(2, EPOCHS + 1):
            worse = wilcoxon(curve[:epochs] - best[:epochs], alternative="less", zero_method="zsplit").pvalue < 0.1
            if worse and curve[:epochs].mean() < best.mean():
                return epochs
        return EPOCHS

    expected = [stop(curve) for curve in judged.values]
    assert replayed_rules.wilcoxon(judged, known, 0.1).tolist() == expected
    assert len(set(expected)) > 1
    np.testing.assert_array_equal(replayed_rules.wilcoxon(Trainings(np.zeros(1), best[None]), known, 0.1), [EPOCHS])


def test_halving_stops_those_that_gained_least_since_the_last_rung() -> None:
    #                   epoch 1    2    3    4    5    6    7    8    9
    values = np.array(
        [
            [0.50, 0.90, 0.91, 0.91, 0.91, 0.91, 0.91, 0.91, 0.91],
            [0.50, 0.60, 0.70, 0.75, 0.78, 0.80, 0.80, 0.80, 0.80],
            [0.50, 0.55, 0.60, 0.70, 0.80, 0.90, 0.95, 0.96, 0.97],
            [0.50, 0.51, 0.52, 0.60, 0.70, 0.80, 0.90, 0.95, 0.99],
        ]
    )
    # After two epochs the gains are 0.40, 0.10, 0.05, 0.01; those that go on gain 0.01 and 0.15 until the fourth.
    run = replayed_rules.halving(Trainings(np.zeros(4, int), values), Trainings(np.zeros(0), values[:0]), 2, 0.5)
    assert run.tolist() == [4, 9, 2, 2]


def test_a_gain_that_known_members_had_is_foreseen() -> None:
    """Half of what is missing comes in each epoch, so what is left follows from the best value."""
    starts = np.array([0.5, 0.3, 0.1])[:, None]
    known = Trainings(np.arange(3), 0.9 - starts * 0.5 ** np.arange(EPOCHS))
    judged = Trainings(np.zeros(1), 0.9 - 0.4 * 0.5 ** np.arange(EPOCHS)[None])
    left = judged.values[0, -1] - judged.values[0]
    for remaining in (0.001, 0.01, 0.05):
        (run,) = replayed_rules.extrapolated(judged, known, remaining)
        assert run == np.flatnonzero(left <= remaining + 1e-12)[0] + 1


def test_the_first_epochs_are_a_share_of_all() -> None:
    judged = trainings(0, 1, 1)
    shares = (0.01, 0.25, 0.5, 0.75, 1.0)
    assert [replayed_rules.first_epochs(judged, judged, share)[0] for share in shares] == [1, 3, 6, 9, 12]


def test_a_target_stops_where_it_is_reached_first() -> None:
    judged = Trainings(np.zeros(2), np.array([[0.5, 0.8, 0.7, 0.9], [0.5, 0.6, 0.7, 0.75]]))
    assert replayed_rules.target(judged, judged, 0.8).tolist() == [2, 4]
