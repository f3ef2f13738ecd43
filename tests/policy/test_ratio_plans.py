"""Plans of a ratio equal a plain loop, and their promises hold for any statistics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensai.activations import SiteStatistics, Statistics
from sensai.policy.plans import WidthRule, ratio_plan
from tests.policy.plan_checks import (
    CLASSES,
    RATIOS,
    RULES,
    assert_plans_equal,
    assert_sound,
    checked,
    kept_width,
    keys,
    one_class,
    removed_by_loop,
    statistics_of_sites,
)


@checked
@given(statistics=statistics_of_sites(), classes=CLASSES, ratio=RATIOS, min_channels=st.integers(1, 4))
def test_the_global_ratio_equals_a_loop(
    statistics: Statistics, classes: tuple[int, ...], ratio: float, min_channels: int
) -> None:
    plan = ratio_plan(statistics, classes, ratio=ratio, rule=WidthRule(min_channels))
    assert_plans_equal(plan, removed_by_loop(statistics, classes, ratio, min_channels))


@checked
@given(statistics=statistics_of_sites(), classes=CLASSES, ratio=RATIOS)
def test_exactly_the_ratio_goes_where_nothing_stands_against_it(
    statistics: Statistics, classes: tuple[int, ...], ratio: float
) -> None:
    plan = ratio_plan(statistics, classes, ratio=ratio)
    total = sum(values.zeros.shape[1] for values in statistics.values())
    removed = sum(len(each) for each in plan.values())
    # Only the rule that no site is emptied can prevent a removal.
    assert removed == min(round(ratio * total), total - len(statistics))


@checked
@given(
    statistics=statistics_of_sites(),
    classes=CLASSES,
    ratio=RATIOS,
    rule=RULES,
    ranking=st.sampled_from(["global", "layer"]),
)
def test_ratio_plans_are_sound(
    statistics: Statistics, classes: tuple[int, ...], ratio: float, rule: WidthRule, ranking: str
) -> None:
    plan = ratio_plan(statistics, classes, ratio=ratio, ranking=ranking, rule=rule)
    assert_sound(plan, statistics, rule)
    # A removed channel never ranks behind a kept one of the same site.
    for site, removed in plan.items():
        own = keys(statistics, site, classes)
        stays = [key for channel, key in enumerate(own) if channel not in removed]
        assert not len(removed) or max(own[channel] for channel in removed) <= min(stays)


@checked
@given(statistics=statistics_of_sites(), classes=CLASSES, ratio=RATIOS, min_channels=st.integers(1, 4))
def test_layer_ranking_removes_the_share_in_each_site(
    statistics: Statistics, classes: tuple[int, ...], ratio: float, min_channels: int
) -> None:
    plan = ratio_plan(statistics, classes, ratio=ratio, ranking="layer", rule=WidthRule(min_channels))
    for site, removed in plan.items():
        own = keys(statistics, site, classes)
        count = min(round(ratio * len(own)), max(len(own) - min_channels, 0))
        order = sorted(range(len(own)), key=lambda channel: (own[channel], channel))
        assert removed.tolist() == sorted(order[:count])


@pytest.mark.parametrize("ranking", ["global", "layer"])
def test_more_is_removed_for_a_larger_ratio_and_nothing_for_none(ranking: str) -> None:
    generator = np.random.default_rng(0)
    statistics = {
        name: SiteStatistics(generator.integers(0, 99, (1, 30)), generator.random((1, 30)), np.array([100]))
        for name in ("a", "b")
    }
    previous: set[tuple[str, int]] = set()
    for ratio in (0.0, 0.1, 0.3, 0.6, 0.9):
        plan = ratio_plan(statistics, (0,), ratio=ratio, ranking=ranking)
        removed = {(site, int(channel)) for site, channels in plan.items() for channel in channels}
        assert len(removed) == round(ratio * 60)
        assert previous <= removed
        previous = removed


def test_ties_go_to_the_smaller_mean() -> None:
    statistics = one_class(a=[(50, 0.3), (50, 0.1), (50, 0.2), (10, 0.0)])
    assert ratio_plan(statistics, (0,), ratio=0.25)["a"].tolist() == [1]
    assert ratio_plan(statistics, (0,), ratio=0.5)["a"].tolist() == [1, 2]
    assert ratio_plan(statistics, (0,), ratio=0.75)["a"].tolist() == [0, 1, 2]


def test_a_tie_between_sites_goes_to_the_smaller_mean_too() -> None:
    statistics = one_class(a=[(50, 0.3), (0, 1.0)], b=[(50, 0.1), (0, 1.0)])
    assert [len(removed) for removed in ratio_plan(statistics, (0,), ratio=0.25).values()] == [0, 1]


def test_a_site_at_its_least_width_leaves_its_share_to_the_others() -> None:
    statistics = one_class(a=[(100, 0.0)] * 4, b=[(1, 1.0), (2, 1.0), (3, 1.0), (0, 1.0)])
    plan = ratio_plan(statistics, (0,), ratio=0.5, rule=WidthRule(min_channels=2))
    assert len(plan["a"]) == 2
    assert plan["b"].tolist() == [1, 2]


def test_what_a_class_does_not_use_depends_on_the_class() -> None:
    statistics = {"a": SiteStatistics(np.array([[90, 0], [0, 90]]), np.ones((2, 2)), np.array([100, 100]))}
    assert ratio_plan(statistics, (0,), ratio=0.5)["a"].tolist() == [0]
    assert ratio_plan(statistics, (1,), ratio=0.5)["a"].tolist() == [1]


@checked
@given(channels=st.integers(1, 100), kept=st.integers(0, 100), rule=RULES)
def test_widths_are_rounded_to_the_nearest_multiple(channels: int, kept: int, rule: WidthRule) -> None:
    kept = min(kept, channels)
    width = kept_width(rule, kept, channels)
    assert min(rule.min_channels, channels) <= width <= channels
    if channels < rule.round_to:
        assert width == channels
    elif width < channels and width > rule.min_channels + rule.round_to:
        assert width % rule.round_to == 0
        assert abs(width - kept) <= rule.round_to / 2


def test_rounding_by_hand() -> None:
    rule = WidthRule(min_channels=3, round_to=8)
    assert [kept_width(rule, kept, 32) for kept in (0, 3, 11, 12, 13, 32)] == [8, 8, 8, 16, 16, 32]
    assert kept_width(rule, 2, 6) == 6
    assert kept_width(WidthRule(min_channels=9, round_to=8), 0, 32) == 16
    assert kept_width(WidthRule(min_channels=50), 0, 32) == 32
    assert kept_width(WidthRule(min_channels=0, round_to=8), 0, 32) == 8


@pytest.mark.parametrize("ranking", ["global", "layer"])
def test_a_class_without_images_gets_a_plan_all_the_same(ranking: str) -> None:
    statistics = {
        name: SiteStatistics(np.array([[5] * 6, [0] * 6]), np.array([[1.0] * 6, [0.0] * 6]), np.array([9, 0]))
        for name in ("a", "b")
    }
    plan = ratio_plan(statistics, (1,), ratio=0.5, ranking=ranking)
    assert sum(len(removed) for removed in plan.values()) == 6
    assert_sound(plan, statistics, WidthRule())
    # If one of the classes has images, these decide.
    assert_plans_equal(ratio_plan(statistics, (0, 1), ratio=0.5), ratio_plan(statistics, (0,), ratio=0.5))


def test_channels_of_which_nothing_is_known_go_last() -> None:
    known = SiteStatistics(np.zeros((1, 4), np.int64), np.full((1, 4), 9.0), np.array([3]))
    unknown = SiteStatistics(np.zeros((1, 4), np.int64), np.zeros((1, 4)), np.array([0]))
    plan = ratio_plan({"unknown": unknown, "known": known}, (0,), ratio=0.25)
    assert [len(removed) for removed in plan.values()] == [0, 2]
