"""Plans of thresholds equal a plain loop, and their promises hold for any statistics."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sensai.activations import SiteStatistics, Statistics
from sensai.policy.plans import WidthRule, threshold_plan
from sensai.sites import Plan
from tests.policy.plan_checks import (
    CLASSES,
    RULES,
    assert_plans_equal,
    assert_sound,
    checked,
    keys,
    one_class,
    statistics_of_sites,
)


def threshold_by_loop(
    statistics: Statistics, classes: Sequence[int], apoz: float, mean: float, min_channels: int
) -> Plan:
    plan = {}
    for site in statistics:
        own = keys(statistics, site, classes)
        threshold = apoz
        while True:
            removed = [number for number, key in enumerate(own) if -key[0] > threshold and key[1] < mean]
            if len(own) - len(removed) >= min(min_channels, len(own)):
                break
            threshold += 0.05
        plan[site] = np.array(removed, np.int64)
    return plan


@checked
@given(
    statistics=statistics_of_sites(),
    classes=CLASSES,
    apoz=st.sampled_from([0.0, 0.3, 0.8, 0.95]),
    mean=st.sampled_from([0.0, 0.01, 0.2, 10.0]),
    min_channels=st.integers(1, 4),
)
def test_the_threshold_rule_equals_a_loop(
    statistics: Statistics, classes: tuple[int, ...], apoz: float, mean: float, min_channels: int
) -> None:
    # Another test covers sites that channels of only zeros would empty.
    alive = {
        site: SiteStatistics(np.minimum(values.zeros, values.elements[:, None] - 1), values.magnitude, values.elements)
        for site, values in statistics.items()
    }
    plan = threshold_plan(alive, classes, apoz_threshold=apoz, mean_threshold=mean, rule=WidthRule(min_channels))
    assert_plans_equal(plan, threshold_by_loop(alive, classes, apoz, mean, min_channels))


@checked
@given(
    statistics=statistics_of_sites(),
    classes=CLASSES,
    apoz=st.floats(0, 1),
    mean=st.floats(0, 1),
    rule=RULES,
)
def test_threshold_plans_are_sound(
    statistics: Statistics, classes: tuple[int, ...], apoz: float, mean: float, rule: WidthRule
) -> None:
    plan = threshold_plan(statistics, classes, apoz_threshold=apoz, mean_threshold=mean, rule=rule)
    assert_sound(plan, statistics, rule)


def test_both_thresholds_must_be_passed() -> None:
    statistics = one_class(a=[(81, 0.009), (80, 0.009), (81, 0.01), (99, 0.5), (0, 0.0)])
    plan = threshold_plan(statistics, (0,), apoz_threshold=0.8, mean_threshold=0.01)
    assert plan["a"].tolist() == [0]


def test_the_threshold_rises_by_steps_where_it_would_empty_a_site_and_only_there() -> None:
    statistics = one_class(
        a=[(82, 0.0), (88, 0.0), (93, 0.0)],  # All above 0.80 and two above 0.85, so one stays.
        b=[(91, 0.0), (92, 0.0), (97, 0.0)],  # 0.85 and 0.90 do not help, 0.95 leaves two.
        c=[(82, 0.0), (88, 0.0), (10, 1.0)],  # Nothing to mend.
    )
    plan = threshold_plan(statistics, (0,), apoz_threshold=0.8, mean_threshold=0.01)
    assert {site: removed.tolist() for site, removed in plan.items()} == {"a": [1, 2], "b": [2], "c": [0, 1]}


def test_a_site_that_is_dead_throughout_keeps_its_minimum() -> None:
    """Even a threshold of 1 removes too many: the most dispensable channels go until the minimum is left."""
    statistics = one_class(a=[(100, 0.0), (100, 0.001), (100, 0.0), (100, 0.002)], b=[(0, 1.0), (0, 1.0)])
    for min_channels, kept in ((1, [3]), (2, [1, 3])):
        rule = WidthRule(min_channels)
        plan = threshold_plan(statistics, (0,), apoz_threshold=0.8, mean_threshold=0.01, rule=rule)
        assert sorted({0, 1, 2, 3} - set(plan["a"].tolist())) == kept
        assert plan["b"].tolist() == []


def test_rounding_keeps_the_finds_of_the_threshold_rule_first() -> None:
    found = [(95, 0.0)] * 5
    alive = [(5, 1.0), (96, 1.0), (4, 1.0)]
    statistics = one_class(a=[*alive, *found])
    # Five of eight channels pass; widths are multiples of four, so four of these go.
    plan = threshold_plan(statistics, (0,), apoz_threshold=0.8, mean_threshold=0.01, rule=WidthRule(round_to=4))
    assert plan["a"].tolist() == [3, 4, 5, 6]


def test_the_threshold_rule_removes_nothing_of_which_nothing_is_known() -> None:
    statistics = {"a": SiteStatistics(np.zeros((2, 4), np.int64), np.zeros((2, 4)), np.array([9, 0]))}
    assert not len(threshold_plan(statistics, (1,), apoz_threshold=0.0, mean_threshold=1.0)["a"])
