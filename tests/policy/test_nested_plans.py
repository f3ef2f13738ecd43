"""Plans in steps grow evenly up to the whole plan."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensai.activations import Statistics
from sensai.policy.criteria import CRITERIA
from sensai.policy.plans import BY_APOZ, WidthRule, nested_plans, ratio_plan, threshold_plan
from tests.policy.plan_checks import (
    CLASSES,
    RATIOS,
    RULES,
    assert_nested,
    assert_plans_equal,
    checked,
    count_of,
    every_criterion,
    keys,
    statistics_of_sites,
    with_sensitivities,
)

_steps = st.integers(1, 6)


@pytest.mark.parametrize("name", CRITERIA)
@checked
@given(statistics=statistics_of_sites(), classes=CLASSES, ratio=RATIOS, rule=RULES, steps=_steps)
def test_steps_grow_evenly_to_the_plan_and_the_most_dispensable_go_first(
    name: str, statistics: Statistics, classes: tuple[int, ...], ratio: float, rule: WidthRule, steps: int
) -> None:
    statistics = with_sensitivities(statistics)
    criterion = every_criterion(statistics)[name]
    keys = criterion(statistics, classes)
    plan = ratio_plan(statistics, classes, ratio=ratio, rule=rule, criterion=criterion)
    nested = nested_plans(plan, keys, steps)
    assert [count_of(each) for each in nested] == [round(step * count_of(plan) / steps) for step in range(1, steps + 1)]
    assert_nested(nested, plan)
    for each in nested:
        gone = {(site, channel) for site, removed in each.items() for channel in removed.tolist()}
        later = {(site, channel) for site, removed in plan.items() for channel in removed.tolist()} - gone
        key_of = {pair: tuple(keys[pair[0]][:, pair[1]]) for pair in gone | later}
        assert not (gone and later) or max(map(key_of.__getitem__, gone)) <= min(map(key_of.__getitem__, later))


@checked
@given(statistics=statistics_of_sites(), classes=CLASSES, ratio=RATIOS, min_channels=st.integers(1, 4), steps=_steps)
def test_a_step_is_the_plan_of_its_smaller_ratio(
    statistics: Statistics, classes: tuple[int, ...], ratio: float, min_channels: int, steps: int
) -> None:
    by_ratio = partial(ratio_plan, statistics, classes, rule=WidthRule(min_channels))
    total = sum(values.zeros.shape[1] for values in statistics.values())
    for each in nested_plans(by_ratio(ratio), BY_APOZ(statistics, classes), steps):
        assert_plans_equal(each, by_ratio(count_of(each) / total))


@checked
@given(statistics=statistics_of_sites(), classes=CLASSES, ratio=RATIOS, rule=RULES, steps=_steps)
def test_with_layer_ranking_every_site_grows_evenly(
    statistics: Statistics, classes: tuple[int, ...], ratio: float, rule: WidthRule, steps: int
) -> None:
    plan = ratio_plan(statistics, classes, ratio=ratio, ranking="layer", rule=rule)
    nested = nested_plans(plan, BY_APOZ(statistics, classes), steps, ranking="layer")
    assert_nested(nested, plan)
    for step, each in enumerate(nested, 1):
        for site, removed in each.items():
            order = sorted(plan[site].tolist(), key=lambda channel: (keys(statistics, site, classes)[channel], channel))
            assert removed.tolist() == sorted(order[: round(step * len(order) / steps)])


@checked
@given(
    statistics=statistics_of_sites(),
    classes=CLASSES,
    apoz_threshold=st.floats(0, 1),
    mean_threshold=st.sampled_from([0.01, 0.2, 10.0]),
    rule=RULES,
    steps=_steps,
)
def test_plans_by_thresholds_are_made_in_steps_too(
    statistics: Statistics,
    classes: tuple[int, ...],
    apoz_threshold: float,
    mean_threshold: float,
    rule: WidthRule,
    steps: int,
) -> None:
    plan = threshold_plan(statistics, classes, apoz_threshold=apoz_threshold, mean_threshold=mean_threshold, rule=rule)
    nested = nested_plans(plan, BY_APOZ(statistics, classes), steps)
    assert_nested(nested, plan)
    assert [count_of(each) for each in nested] == [round(step * count_of(plan) / steps) for step in range(1, steps + 1)]
