"""Sites that may be emptied go with the sites that only they feed."""

from dataclasses import replace
from typing import get_args

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sensai.activations import Statistics
from sensai.policy.plans import BY_APOZ, Ranking, WidthRule, flops_plans, nested_plans, ratio_plan, threshold_plan
from sensai.sites import Plan
from tests.policy.plan_checks import (
    CLASSES,
    RATIOS,
    assert_nested,
    assert_plans_equal,
    assert_sound,
    checked,
    flops_with,
    one_class,
    removed_by_loop,
    statistics_of_sites,
    target_of,
)


@st.composite
def emptying(draw: st.DrawFn) -> tuple[Statistics, WidthRule]:
    """Generate statistics of sites of which some may be emptied: alone, in pairs, or with sites that only they feed."""
    statistics = draw(statistics_of_sites())
    first, *others = statistics
    branches = draw(
        st.sampled_from(
            [
                {first: (first,)},
                {site: tuple(statistics) for site in statistics},
                {first: tuple(statistics), **{site: (site,) for site in others}},
            ]
        )
    )
    return statistics, WidthRule(0, draw(st.sampled_from([1, 1, 2, 4])), branches)


def emptied_by_loop(plan: Plan, statistics: Statistics, rule: WidthRule) -> Plan:
    """Remove the channels of sites that go with an emptied one."""
    gone = {
        other
        for site, branch in rule.branches.items()
        if len(plan[site]) == statistics[site].zeros.shape[1]
        for other in branch
    }
    return {site: np.arange(statistics[site].zeros.shape[1]) if site in gone else own for site, own in plan.items()}


def assert_emptied_together(plan: Plan, statistics: Statistics, rule: WidthRule) -> None:
    assert_plans_equal(plan, emptied_by_loop(plan, statistics, rule))
    for site, removed in plan.items():
        channels = statistics[site].zeros.shape[1]
        kept = channels - len(removed)
        assert removed.tolist() == sorted(set(removed.tolist()))
        assert kept or site in rule.branches
        assert kept % rule.round_to == 0 or kept == channels


@checked
@given(drawn=emptying(), classes=CLASSES, ratio=RATIOS)
def test_a_ratio_plan_may_empty_sites(
    drawn: tuple[Statistics, WidthRule], classes: tuple[int, ...], ratio: float
) -> None:
    statistics, rule = drawn
    rule = replace(rule, round_to=1)
    least = {site: int(site not in rule.branches) for site in statistics}
    expected = removed_by_loop(statistics, classes, ratio, least)
    assert_plans_equal(
        ratio_plan(statistics, classes, ratio=ratio, rule=rule), emptied_by_loop(expected, statistics, rule)
    )


@checked
@given(drawn=emptying(), classes=CLASSES, ratio=RATIOS, steps=st.integers(1, 4))
def test_every_policy_empties_branches_as_a_whole(
    drawn: tuple[Statistics, WidthRule], classes: tuple[int, ...], ratio: float, steps: int
) -> None:
    statistics, rule = drawn
    flops = flops_with(statistics, [1])
    ranked = [ratio_plan(statistics, classes, ratio, ranking=each, rule=rule) for each in get_args(Ranking)]
    (by_flops,) = flops_plans(
        [BY_APOZ(statistics, classes)], flops=flops, target=target_of(1 - ratio, flops, 1, len(statistics)), rule=rule
    )
    by_threshold = threshold_plan(statistics, classes, apoz_threshold=ratio, mean_threshold=0.2, rule=rule)
    for plan in (*ranked, by_flops, by_threshold):
        assert_emptied_together(plan, statistics, rule)
        assert_nested(nested_plans(plan, BY_APOZ(statistics, classes), steps), plan)


@checked
@given(drawn=emptying(), classes=CLASSES, ratio=RATIOS, least=st.integers(1, 3))
def test_nothing_is_emptied_unless_asked_for(
    drawn: tuple[Statistics, WidthRule], classes: tuple[int, ...], ratio: float, least: int
) -> None:
    statistics, rule = drawn
    asked, without = replace(rule, min_channels=least), replace(rule, min_channels=least, branches={})
    for ranking in get_args(Ranking):
        plans = [ratio_plan(statistics, classes, ratio, ranking=ranking, rule=each) for each in (asked, without)]
        assert_plans_equal(*plans)
        assert_sound(plans[0], statistics, asked)


def test_what_is_saved_by_an_emptied_site_is_left_to_the_others() -> None:
    dead, alive = [(90, 0.1)] * 3, [(50, 1.0), (51, 1.0), (52, 1.0), (53, 1.0)]
    statistics = one_class(beside=dead, chain=alive)
    rule = WidthRule(0, branches={"beside": ("beside",)})
    keys = [BY_APOZ(statistics, (0,))]

    def flops(removed: np.ndarray) -> np.ndarray:
        return ((np.array([3, 4]) - removed) * 10).sum(axis=1)

    (kept,) = flops_plans(keys, flops=flops, target=40)
    (emptied,) = flops_plans(keys, flops=flops, target=40, rule=rule)
    assert [len(removed) for removed in kept.values()] == [2, 1]
    assert [len(removed) for removed in emptied.values()] == [3, 0]
    (nothing,) = flops_plans(keys, flops=flops, target=0, rule=replace(rule, branches={"beside": (), "chain": ()}))
    assert [len(removed) for removed in nothing.values()] == [3, 4]
