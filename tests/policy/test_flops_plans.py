"""Plans for a FLOPs target remove the least that meets it."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensai.activations import Statistics
from sensai.policy.plans import BY_APOZ, Ranking, WidthRule, flops_plans, ratio_plan
from sensai.sites import Plan
from tests.policy.plan_checks import (
    CLASSES,
    RULES,
    Flops,
    assert_plans_equal,
    assert_sound,
    checked,
    count_of,
    flops_with,
    kept_width,
    keys,
    statistics_of_sites,
    target_of,
)

# Each example tries every count.
few = settings(checked, max_examples=40)
_members = st.lists(CLASSES, min_size=1, max_size=3)


def counts(plans: Sequence[Plan]) -> np.ndarray:
    return np.array([[len(removed) for removed in plan.values()] for plan in plans])


def ensemble_by_loop(
    statistics: Statistics, members: Sequence[tuple[int, ...]], flops: Flops, target: float, rule: WidthRule
) -> list[Plan]:
    """Remove channels of all members in one order, the most dispensable first, until the largest member meets the target."""
    line, orders = [], {}
    for number, classes in enumerate(members):
        for position, site in enumerate(statistics):
            own = keys(statistics, site, classes)
            order = sorted(range(len(own)), key=lambda channel: (own[channel], channel))
            orders[number, site] = order
            for place in range(len(own) - kept_width(rule, 0, len(own))):
                line.append((own[order[place]], position, place, number, site))
    line.sort()
    for count in range(len(line) + 1):
        gone = Counter((number, site) for *_, number, site in line[:count])
        plans: list[Plan] = [{} for _ in members]
        for (number, site), order in orders.items():
            kept = kept_width(rule, len(order) - gone[number, site], len(order))
            plans[number][site] = np.array(sorted(order[: len(order) - kept]), np.int64)
        if flops(counts(plans)).max() <= target:
            break
    return plans


@few
@given(statistics=statistics_of_sites(), members=_members, share=st.floats(0, 1), rule=RULES, data=st.data())
def test_plans_of_an_ensemble_equal_a_loop(
    statistics: Statistics, members: list[tuple[int, ...]], share: float, rule: WidthRule, data: st.DataObject
) -> None:
    heads = data.draw(st.lists(st.integers(1, 4), min_size=len(members), max_size=len(members)))
    flops = flops_with(statistics, heads)
    target = target_of(share, flops, len(members), len(statistics))
    plans = flops_plans([BY_APOZ(statistics, each) for each in members], flops=flops, target=target, rule=rule)
    expected = ensemble_by_loop(statistics, members, flops, target, rule)
    for plan, by_loop in zip(plans, expected, strict=True):
        assert_plans_equal(plan, by_loop)
        assert_sound(plan, statistics, rule)


@pytest.mark.parametrize("ranking", ["global", "layer"])
@few
@given(statistics=statistics_of_sites(), classes=CLASSES, share=st.floats(0, 1), rule=RULES, members=st.integers(1, 3))
def test_members_that_are_alike_get_the_plan_of_the_smallest_ratio(
    ranking: Ranking, statistics: Statistics, classes: tuple[int, ...], share: float, rule: WidthRule, members: int
) -> None:
    flops = flops_with(statistics, [1] * members)
    target = target_of(share, flops, members, len(statistics))
    channels = sum(values.zeros.shape[1] for values in statistics.values())
    for removed in range(channels):
        expected = ratio_plan(statistics, classes, removed / channels, ranking=ranking, rule=rule)
        if flops(counts([expected] * members)).max() <= target:
            break
    alike = [BY_APOZ(statistics, classes)] * members
    plans = flops_plans(alike, flops=flops, target=target, ranking=ranking, rule=rule)
    assert len(plans) == members
    for plan in plans:
        assert_plans_equal(plan, expected)


@few
@given(statistics=statistics_of_sites(), members=_members, share=st.floats(0, 1), rule=RULES)
def test_one_member_is_as_large_as_it_may_be_and_the_others_go_without_more(
    statistics: Statistics, members: list[tuple[int, ...]], share: float, rule: WidthRule
) -> None:
    all_keys = [BY_APOZ(statistics, classes) for classes in members]
    one, every = flops_with(statistics, [1]), flops_with(statistics, [1] * len(members))
    target = target_of(share, one, 1, len(statistics))
    alone = [flops_plans([own], flops=one, target=target, rule=rule)[0] for own in all_keys]
    together = flops_plans(all_keys, flops=every, target=target, rule=rule)
    for by_itself, plan in zip(alone, together, strict=True):
        assert all(set(by_itself[site]) <= set(plan[site]) for site in plan)
    assert any(count_of(by_itself) == count_of(plan) for by_itself, plan in zip(alone, together, strict=True))


@few
@given(statistics=statistics_of_sites(), members=_members, share=st.floats(0, 1))
def test_layer_ranking_takes_the_same_share_of_the_ensemble_from_each_site(
    statistics: Statistics, members: list[tuple[int, ...]], share: float
) -> None:
    flops = flops_with(statistics, [1] * len(members))
    target = target_of(share, flops, len(members), len(statistics))
    all_keys = [BY_APOZ(statistics, classes) for classes in members]
    plans = flops_plans(all_keys, flops=flops, target=target, ranking="layer")
    most, least = [1.0], [0.0]
    for site, values in statistics.items():
        channels, gone = values.zeros.shape[1], sum(len(plan[site]) for plan in plans)
        own = [keys(statistics, site, classes) for classes in members]
        orders = [sorted(range(channels), key=lambda channel, each=each: (each[channel], channel)) for each in own]
        # A member's last channel stays; of the others, those that rank first over all members go.
        line = sorted(
            (each[channel], place, number)
            for number, (each, order) in enumerate(zip(own, orders, strict=True))
            for place, channel in enumerate(order[:-1])
        )
        for number, plan in enumerate(plans):
            count = sum(member == number for *_, member in line[:gone])
            assert plan[site].tolist() == sorted(orders[number][:count])
        least.append((gone / len(members) - 1) / channels)
        if gone < len(line):
            most.append((gone / len(members) + 1) / channels)
    # All sites have the same ratio, except for less than a channel of each member and for exhausted sites.
    assert max(least) <= min(most)


def test_targets_of_an_ensemble_by_hand() -> None:
    members = [{"a": -np.array([[0.9, 0.8, 0.7, 0.6]])}, {"a": -np.array([[0.5, 0.75, 0.3, 0.2]])}]

    def removed(ranking: Ranking, target: float, heads: Sequence[int] = (1, 1)) -> list[list[int]]:
        flops: Flops = lambda gone: (4 - gone[:, 0]) * np.array(heads)  # noqa: E731
        return [plan["a"].tolist() for plan in flops_plans(members, flops=flops, target=target, ranking=ranking)]

    for ranking in ("global", "layer"):
        assert removed(ranking, 4) == [[], []]
        # The second member must lose its channel of 0.75; before that the first loses those of 0.9 and 0.8.
        assert removed(ranking, 3) == [[0, 1], [1]]
        # Then its channel of 0.5 goes; the first member keeps its last channel.
        assert removed(ranking, 2) == [[0, 1, 2], [0, 1]]
        # With the larger head, the first member must lose channels.
        assert removed(ranking, 9, heads=(3, 1)) == [[0], []]
        assert removed(ranking, 0) == [[0, 1, 2], [0, 1, 2]]
