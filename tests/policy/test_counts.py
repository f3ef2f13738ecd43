"""Counts of removed channels are those of the plans."""

from itertools import product

import numpy as np
from hypothesis import given

from sensai.activations import SiteStatistics, Statistics
from sensai.policy.counts import RatioCounts
from sensai.policy.plans import ratio_plan
from tests.policy.plan_checks import CLASSES, NUM_CLASSES, RATIOS, checked, statistics_of_sites


@checked
@given(statistics=statistics_of_sites(), classes=CLASSES, ratio=RATIOS)
def test_counts_are_those_of_the_plan(statistics: Statistics, classes: tuple[int, ...], ratio: float) -> None:
    counts = RatioCounts(statistics, ratio)
    plan = ratio_plan(statistics, classes, ratio=ratio)
    assert counts.removed(counts.sums(classes)).tolist() == [len(removed) for removed in plan.values()]


@checked
@given(statistics=statistics_of_sites(), ratio=RATIOS)
def test_a_swap_is_as_if_added_anew(statistics: Statistics, ratio: float) -> None:
    counts = RatioCounts(statistics, ratio)
    np.testing.assert_allclose(counts.swapped(counts.sums((0, 1)), 1, 2), counts.sums((0, 2)), atol=1e-9)


@checked
@given(statistics=statistics_of_sites(), ratio=RATIOS)
def test_coupling_counts_the_channels_that_both_plans_remove(statistics: Statistics, ratio: float) -> None:
    plans = [ratio_plan(statistics, [label], ratio=ratio) for label in range(NUM_CLASSES)]
    matrix = RatioCounts(statistics, ratio).coupling()
    assert matrix.dtype == np.int64
    for one, two in product(range(NUM_CLASSES), repeat=2):
        assert matrix[one, two] == sum(len(np.intersect1d(plans[one][site], plans[two][site])) for site in statistics)


def test_counts_of_classes_without_images() -> None:
    statistics = {"a": SiteStatistics(np.zeros((1, 5), np.int64), np.zeros((1, 5)), np.zeros(1, np.int64))}
    counts = RatioCounts(statistics, 0.5)
    assert counts.removed(counts.sums((0,))).tolist() == [len(ratio_plan(statistics, (0,), ratio=0.5)["a"])]
