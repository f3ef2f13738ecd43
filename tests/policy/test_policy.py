"""Removed channels: every policy equals a plain loop, and the promises hold for any statistics."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise, product
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensai.activations import SiteStatistics, Statistics
from sensai.policy.counts import RatioCounts
from sensai.policy.criteria import CRITERIA
from sensai.policy.criterion_inputs import Criterion, criterion_of, norms_of_filters
from sensai.policy.plans import BY_APOZ, Ranking, WidthRule, flops_plans, nested_plans, ratio_plan, threshold_plan
from sensai.sites import Plan, find_sites
from tests.helpers.networks import images_for, shared

NUM_CLASSES = 3
ELEMENTS = 20

checked = settings(max_examples=150, deadline=None, derandomize=True)

# Few different values, so that ties are common.
_MAGNITUDES = np.array([0.0, 0.05, 0.1, 0.5, 7.0])


@st.composite
def statistics_of_sites(draw: st.DrawFn, least_channels: int = 1) -> Statistics:
    """Generate statistics of one to four sites; sometimes the last of the three classes has no images."""
    sites = {}
    images = np.array([1, 2, draw(st.sampled_from([0, 1, 3]))], np.int64)
    for number in range(draw(st.integers(1, 4))):
        channels = draw(st.integers(least_channels, 9))
        # One draw for all of a site: 54 of a number each take most of the time of these tests.
        size = 2 * NUM_CLASSES * channels
        drawn = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8).reshape(2, NUM_CLASSES, channels)
        sites[f"site{number}"] = SiteStatistics(
            drawn[0].astype(np.int64) % (ELEMENTS + 1) * images[:, None],
            _MAGNITUDES[drawn[1] % len(_MAGNITUDES)] * images[:, None],
            ELEMENTS * images,
        )
    return sites


_classes = st.sampled_from([(0,), (1,), (0, 1), (0, 2), (0, 1, 2)])
_rules = st.builds(WidthRule, min_channels=st.integers(1, 5), round_to=st.sampled_from([1, 1, 2, 4, 8]))
_ratios = st.floats(0, 0.99)


def keys(statistics: Statistics, site: str, classes: Sequence[int]) -> list[tuple[float, float]]:
    """Return (-APoZ, mean) of each channel, by hand."""
    values = statistics[site]
    elements = sum(int(values.elements[label]) for label in classes)
    return [
        (
            -sum(int(values.zeros[label, channel]) for label in classes) / elements,
            sum(float(values.magnitude[label, channel]) for label in classes) / elements,
        )
        for channel in range(values.zeros.shape[1])
    ]


def kept_width(rule: WidthRule, kept: int, channels: int) -> int:
    """Return the kept width of a site that must not be emptied."""
    return int(rule.kept_widths(np.array([kept]), {"site": channels})[0])


def removed_by_loop(
    statistics: Statistics, classes: Sequence[int], ratio: float, min_channels: int | dict[str, int]
) -> Plan:
    """Return the channels that the global ratio policy removes, by a loop over all channels, the most dispensable first."""
    ranked = sorted(
        (*key, position, channel, site)
        for position, site in enumerate(statistics)
        for channel, key in enumerate(keys(statistics, site, classes))
    )
    kept = {site: values.zeros.shape[1] for site, values in statistics.items()}
    wanted = round(ratio * sum(kept.values()))
    least = min_channels if isinstance(min_channels, dict) else dict.fromkeys(kept, min_channels)
    plan: dict[str, list[int]] = {site: [] for site in statistics}
    for *_, channel, site in ranked:
        if wanted and kept[site] > least[site]:
            plan[site].append(channel)
            kept[site] -= 1
            wanted -= 1
    return {site: np.array(sorted(channels), np.int64) for site, channels in plan.items()}


def assert_plans_equal(first: Plan, second: Plan) -> None:
    assert list(first) == list(second)
    for site, removed in first.items():
        assert removed.tolist() == second[site].tolist(), site


def assert_sound(plan: Plan, statistics: Statistics, rule: WidthRule) -> None:
    """Assert what every plan of every policy must satisfy."""
    assert list(plan) == list(statistics)
    for site, removed in plan.items():
        channels = statistics[site].zeros.shape[1]
        kept = channels - len(removed)
        assert removed.tolist() == sorted(set(removed.tolist()))
        assert not len(removed) or (removed[0] >= 0 and removed[-1] < channels)
        assert kept >= min(rule.min_channels, channels)
        assert kept >= 1
        assert kept % rule.round_to == 0 or kept == channels


@checked
@given(statistics=statistics_of_sites(), classes=_classes, ratio=_ratios, min_channels=st.integers(1, 4))
def test_the_global_ratio_equals_a_loop(
    statistics: Statistics, classes: tuple[int, ...], ratio: float, min_channels: int
) -> None:
    plan = ratio_plan(statistics, classes, ratio=ratio, rule=WidthRule(min_channels))
    assert_plans_equal(plan, removed_by_loop(statistics, classes, ratio, min_channels))


@checked
@given(statistics=statistics_of_sites(), classes=_classes, ratio=_ratios)
def test_exactly_the_ratio_goes_where_nothing_stands_against_it(
    statistics: Statistics, classes: tuple[int, ...], ratio: float
) -> None:
    plan = ratio_plan(statistics, classes, ratio=ratio)
    total = sum(values.zeros.shape[1] for values in statistics.values())
    removed = sum(len(each) for each in plan.values())
    # Against it stands only that no site is emptied.
    assert removed == min(round(ratio * total), total - len(statistics))


@checked
@given(
    statistics=statistics_of_sites(),
    classes=_classes,
    ratio=_ratios,
    rule=_rules,
    ranking=st.sampled_from(["global", "layer"]),
)
def test_ratio_plans_are_sound(
    statistics: Statistics, classes: tuple[int, ...], ratio: float, rule: WidthRule, ranking: str
) -> None:
    plan = ratio_plan(statistics, classes, ratio=ratio, ranking=ranking, rule=rule)
    assert_sound(plan, statistics, rule)
    # What goes is never better than what stays in the same site.
    for site, removed in plan.items():
        own = keys(statistics, site, classes)
        stays = [key for channel, key in enumerate(own) if channel not in removed]
        assert not len(removed) or max(own[channel] for channel in removed) <= min(stays)


@checked
@given(statistics=statistics_of_sites(), classes=_classes, ratio=_ratios, min_channels=st.integers(1, 4))
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


def one_class(**sites: list[tuple[int, float]]) -> Statistics:
    """Return statistics of one class with 100 activations a channel, from (zeros, mean) of each channel."""
    return {
        site: SiteStatistics(
            np.array([[zeros for zeros, _ in channels]]),
            np.array([[100 * mean for _, mean in channels]]),
            np.array([100]),
        )
        for site, channels in sites.items()
    }


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
@given(channels=st.integers(1, 100), kept=st.integers(0, 100), rule=_rules)
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


@checked
@given(statistics=statistics_of_sites(), classes=_classes, ratio=_ratios)
def test_counts_are_those_of_the_plan(statistics: Statistics, classes: tuple[int, ...], ratio: float) -> None:
    counts = RatioCounts(statistics, ratio)
    plan = ratio_plan(statistics, classes, ratio=ratio)
    assert counts.removed(counts.sums(classes)).tolist() == [len(removed) for removed in plan.values()]


@checked
@given(statistics=statistics_of_sites(), ratio=_ratios)
def test_a_swap_is_as_if_added_anew(statistics: Statistics, ratio: float) -> None:
    counts = RatioCounts(statistics, ratio)
    np.testing.assert_allclose(counts.swapped(counts.sums((0, 1)), 1, 2), counts.sums((0, 2)), atol=1e-9)


@checked
@given(statistics=statistics_of_sites(), ratio=_ratios)
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


# ------------------------------------------------------------------------------------------------------------ criteria

BY_MEAN = criterion_of("mean")
BY_TAYLOR = criterion_of("taylor")
NORMS = {f"site{number}": np.array([5.0, 0.1, 3.0, 3.0, 0.2, 9.0, 1.0, 2.0, 0.0]) for number in range(4)}


def every_criterion(statistics: Statistics) -> dict[str, Criterion]:
    norms = {site: NORMS[site][: values.zeros.shape[1]] for site, values in statistics.items()}
    return {name: criterion_of(name, 3, lambda: norms) for name in CRITERIA}


def with_sensitivities(statistics: Statistics) -> Statistics:
    return {site: replace(values, sensitivity=np.sqrt(values.magnitude)) for site, values in statistics.items()}


@pytest.mark.parametrize("name", CRITERIA)
@checked
@given(
    statistics=statistics_of_sites(),
    classes=_classes,
    ratio=_ratios,
    rule=_rules,
    ranking=st.sampled_from(["global", "layer"]),
)
def test_plans_by_every_criterion_are_sound(
    name: str, statistics: Statistics, classes: tuple[int, ...], ratio: float, rule: WidthRule, ranking: str
) -> None:
    statistics = with_sensitivities(statistics)
    criterion = every_criterion(statistics)[name]
    keys = criterion(statistics, classes)
    assert list(keys) == list(statistics)
    for site, own in keys.items():
        assert own.dtype == np.float64
        assert own.shape[1] == statistics[site].zeros.shape[1]
        assert not np.isnan(own).any()
    plan = ratio_plan(statistics, classes, ratio=ratio, ranking=ranking, rule=rule, criterion=criterion)
    assert_sound(plan, statistics, rule)
    # What goes is never better than what stays in the same site.
    for site, removed in plan.items():
        own = [tuple(column) for column in keys[site].T]
        stays = [key for channel, key in enumerate(own) if channel not in removed]
        assert not len(removed) or max(own[channel] for channel in removed) <= min(stays)


def test_the_mean_ranks_by_the_mean_of_the_members_classes() -> None:
    values = SiteStatistics(
        zeros=np.array([[0, 50, 99], [0, 50, 99]]),
        magnitude=np.array([[10.0, 30.0, 60.0], [900.0, 100.0, 400.0]]),
        elements=np.array([100, 100]),
    )
    chosen = {classes: ratio_plan({"a": values}, classes, ratio=0.34, criterion=BY_MEAN) for classes in ((0,), (1,))}
    assert chosen[(0,)]["a"].tolist() == [0]
    assert chosen[(1,)]["a"].tolist() == [1]
    np.testing.assert_allclose(BY_MEAN({"a": values}, (0, 1))["a"], [[4.55, 0.65, 2.3]])


def sensitive(**sites: list[float]) -> Statistics:
    """Return statistics of one class with only sensitivities."""
    return {
        site: SiteStatistics(np.zeros((1, len(s)), np.int64), np.ones((1, len(s))), np.array([10]), np.array([s]))
        for site, s in sites.items()
    }


def test_taylor_and_filter_norms_compare_sites_at_one_scale() -> None:
    # By their values the channels of `small` would all go first; (3, 4) and (0.03, 0.04) are alike at length 1.
    values = {"large": [3.0, 4.0], "small": [0.03, 0.04]}
    statistics = sensitive(**values)
    norms = {site: np.array(own) for site, own in values.items()}
    for criterion in (BY_TAYLOR, criterion_of("l1", measure_norms=lambda: norms)):
        for keys in criterion(statistics, (0,)).values():
            np.testing.assert_allclose(keys, [[0.6, 0.8]])
        plan = ratio_plan(statistics, (0,), ratio=0.5, criterion=criterion)
        assert {site: removed.tolist() for site, removed in plan.items()} == {"large": [0], "small": [0]}


def test_a_site_without_any_sensitivity_goes_first_and_one_without_images_last() -> None:
    statistics = sensitive(dead=[0.0, 0.0], alive=[1.0, 2.0])
    assert len(ratio_plan(statistics, (0,), ratio=0.25, criterion=BY_TAYLOR)["dead"]) == 1
    statistics["dead"] = replace(statistics["dead"], elements=np.array([0]))
    assert len(ratio_plan(statistics, (0,), ratio=0.25, criterion=BY_TAYLOR)["alive"]) == 1


def test_taylor_needs_a_backward_pass() -> None:
    with pytest.raises(ValueError, match="without a backward pass"):
        ratio_plan(one_class(a=[(1, 1.0)]), (0,), ratio=0.5, criterion=BY_TAYLOR)


@pytest.mark.parametrize(("arch", "arch_args"), [("vgg11_bn", {}), ("resnet20", {}), ("small_cnn", {})])
def test_norms_of_filters_are_those_of_all_layers_that_make_a_channel(arch: str, arch_args: dict[str, object]) -> None:
    network, spec = shared(arch, arch_args)
    sites = find_sites(network, images_for(spec, 2)).sites
    norms = norms_of_filters(network, sites)
    assert any(len(site.producers) > 1 for site in sites) == (arch == "resnet20")
    for site in sites:
        expected = np.zeros(site.channels)
        for layer in site.producers:
            for channel, own in enumerate(network.get_submodule(layer).weight.detach()):
                expected[channel] += float(own.double().abs().sum())
        np.testing.assert_allclose(norms[site.name], expected)


def test_a_random_order_is_the_seeds_and_the_classes_and_takes_all_channels_alike() -> None:
    statistics = sensitive(a=[0.0] * 40, b=[0.0] * 60)

    def removed(seed: int, classes: tuple[int, ...]) -> Plan:
        return ratio_plan(statistics, classes, ratio=0.5, criterion=criterion_of("random", seed))

    assert_plans_equal(removed(1, (0,)), removed(1, (0,)))
    others = [removed(2, (0,)), removed(1, (1,))]
    assert all(other["a"].tolist() != removed(1, (0,))["a"].tolist() for other in others)
    # Of 50 channels that go, 20 are expected in `a` (standard deviation about 2.5).
    assert np.mean([len(removed(seed, (0,))["a"]) for seed in range(100)]) == pytest.approx(20, abs=1)


@pytest.mark.parametrize("criterion", [BY_MEAN, criterion_of("random")])
def test_a_flops_target_goes_by_the_criterion_too(criterion: Criterion) -> None:
    generator = np.random.default_rng(0)
    statistics = {"a": SiteStatistics(generator.integers(0, 99, (1, 30)), generator.random((1, 30)), np.array([100]))}
    (plan,) = flops_plans([criterion(statistics, (0,))], flops=lambda removed: 30 - removed[:, 0], target=20)
    assert_plans_equal(plan, ratio_plan(statistics, (0,), ratio=10 / 30, criterion=criterion))
    assert plan["a"].tolist() != ratio_plan(statistics, (0,), ratio=10 / 30)["a"].tolist()


# -------------------------------------------------------------------------------------------------------- emptied sites


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
@given(drawn=emptying(), classes=_classes, ratio=_ratios)
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
@given(drawn=emptying(), classes=_classes, ratio=_ratios, steps=st.integers(1, 4))
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
@given(drawn=emptying(), classes=_classes, ratio=_ratios, least=st.integers(1, 3))
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


# -------------------------------------------------------------------------------------------------------------- targets

Flops = Callable[[np.ndarray], np.ndarray]

# Each example tries every count.
few = settings(checked, max_examples=40)
_members = st.lists(_classes, min_size=1, max_size=3)


def flops_with(statistics: Statistics, heads: Sequence[int]) -> Flops:
    """Return FLOPs of a chain of layers, one a site, with heads of so many rows."""
    widths = np.array([values.zeros.shape[1] for values in statistics.values()])

    def flops(removed: np.ndarray) -> np.ndarray:
        left = widths - removed
        return 9 * left[:, 0] + (left[:, 1:] * left[:, :-1]).sum(axis=1) + left[:, -1] * np.array(heads)

    return flops


def counts(plans: Sequence[Plan]) -> np.ndarray:
    return np.array([[len(removed) for removed in plan.values()] for plan in plans])


def target_of(share: float, flops: Flops, members: int, sites: int) -> float:
    return share * float(flops(np.zeros((members, sites), np.int64)).max())


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
@given(statistics=statistics_of_sites(), members=_members, share=st.floats(0, 1), rule=_rules, data=st.data())
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
@given(
    statistics=statistics_of_sites(), classes=_classes, share=st.floats(0, 1), rule=_rules, members=st.integers(1, 3)
)
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
@given(statistics=statistics_of_sites(), members=_members, share=st.floats(0, 1), rule=_rules)
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
        # A member's last channel stays; of the others those that rank first over all members go.
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
    # One ratio fits all sites, but for less than a channel of each member, and for those that have no more to give.
    assert max(least) <= min(most)


def test_targets_of_an_ensemble_by_hand() -> None:
    members = [{"a": -np.array([[0.9, 0.8, 0.7, 0.6]])}, {"a": -np.array([[0.5, 0.75, 0.3, 0.2]])}]

    def removed(ranking: Ranking, target: float, heads: Sequence[int] = (1, 1)) -> list[list[int]]:
        flops: Flops = lambda gone: (4 - gone[:, 0]) * np.array(heads)  # noqa: E731
        return [plan["a"].tolist() for plan in flops_plans(members, flops=flops, target=target, ranking=ranking)]

    for ranking in ("global", "layer"):
        assert removed(ranking, 4) == [[], []]
        # The second member has to give a channel, its 0.75, and before that the first its 0.9 and its 0.8.
        assert removed(ranking, 3) == [[0, 1], [1]]
        # Then its 0.5; the first keeps its last channel.
        assert removed(ranking, 2) == [[0, 1, 2], [0, 1]]
        # With the larger head the first is the one that has to give.
        assert removed(ranking, 9, heads=(3, 1)) == [[0], []]
        assert removed(ranking, 0) == [[0, 1, 2], [0, 1, 2]]


# --------------------------------------------------------------------------------------------------------------- steps

_steps = st.integers(1, 6)


def count_of(plan: Plan) -> int:
    return sum(len(removed) for removed in plan.values())


def assert_nested(nested: list[Plan], plan: Plan) -> None:
    """Assert that each step contains the one before, and that the last is the plan."""
    assert_plans_equal(nested[-1], plan)
    for smaller, larger in pairwise(nested):
        assert list(smaller) == list(larger)
        for site, removed in smaller.items():
            assert removed.dtype == larger[site].dtype
            assert removed.tolist() == sorted(removed.tolist())
            assert set(removed.tolist()) <= set(larger[site].tolist())


@pytest.mark.parametrize("name", CRITERIA)
@checked
@given(statistics=statistics_of_sites(), classes=_classes, ratio=_ratios, rule=_rules, steps=_steps)
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
@given(statistics=statistics_of_sites(), classes=_classes, ratio=_ratios, min_channels=st.integers(1, 4), steps=_steps)
def test_a_step_is_the_plan_of_its_smaller_ratio(
    statistics: Statistics, classes: tuple[int, ...], ratio: float, min_channels: int, steps: int
) -> None:
    by_ratio = partial(ratio_plan, statistics, classes, rule=WidthRule(min_channels))
    total = sum(values.zeros.shape[1] for values in statistics.values())
    for each in nested_plans(by_ratio(ratio), BY_APOZ(statistics, classes), steps):
        assert_plans_equal(each, by_ratio(count_of(each) / total))


@checked
@given(statistics=statistics_of_sites(), classes=_classes, ratio=_ratios, rule=_rules, steps=_steps)
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
    classes=_classes,
    apoz_threshold=st.floats(0, 1),
    mean_threshold=st.sampled_from([0.01, 0.2, 10.0]),
    rule=_rules,
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


# ----------------------------------------------------------------------------------------------------------- threshold


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
    classes=_classes,
    apoz=st.sampled_from([0.0, 0.3, 0.8, 0.95]),
    mean=st.sampled_from([0.0, 0.01, 0.2, 10.0]),
    min_channels=st.integers(1, 4),
)
def test_the_threshold_rule_equals_a_loop(
    statistics: Statistics, classes: tuple[int, ...], apoz: float, mean: float, min_channels: int
) -> None:
    # Where channels that are zero everywhere would empty a site, see the test of that.
    alive = {
        site: SiteStatistics(np.minimum(values.zeros, values.elements[:, None] - 1), values.magnitude, values.elements)
        for site, values in statistics.items()
    }
    plan = threshold_plan(alive, classes, apoz_threshold=apoz, mean_threshold=mean, rule=WidthRule(min_channels))
    assert_plans_equal(plan, threshold_by_loop(alive, classes, apoz, mean, min_channels))


@checked
@given(
    statistics=statistics_of_sites(),
    classes=_classes,
    apoz=st.floats(0, 1),
    mean=st.floats(0, 1),
    rule=_rules,
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
    # Five of eight are found; widths are multiples of four, so four go: of those that were found.
    plan = threshold_plan(statistics, (0,), apoz_threshold=0.8, mean_threshold=0.01, rule=WidthRule(round_to=4))
    assert plan["a"].tolist() == [3, 4, 5, 6]


# ------------------------------------------------------------------------------------------------ classes without images


@pytest.mark.parametrize("ranking", ["global", "layer"])
def test_a_class_without_images_gets_a_plan_all_the_same(ranking: str) -> None:
    statistics = {
        name: SiteStatistics(np.array([[5] * 6, [0] * 6]), np.array([[1.0] * 6, [0.0] * 6]), np.array([9, 0]))
        for name in ("a", "b")
    }
    plan = ratio_plan(statistics, (1,), ratio=0.5, ranking=ranking)
    assert sum(len(removed) for removed in plan.values()) == 6
    assert_sound(plan, statistics, WidthRule())
    # With a class that has images, those decide.
    assert_plans_equal(ratio_plan(statistics, (0, 1), ratio=0.5), ratio_plan(statistics, (0,), ratio=0.5))


def test_channels_of_which_nothing_is_known_go_last() -> None:
    known = SiteStatistics(np.zeros((1, 4), np.int64), np.full((1, 4), 9.0), np.array([3]))
    unknown = SiteStatistics(np.zeros((1, 4), np.int64), np.zeros((1, 4)), np.array([0]))
    plan = ratio_plan({"unknown": unknown, "known": known}, (0,), ratio=0.25)
    assert [len(removed) for removed in plan.values()] == [0, 2]


def test_the_threshold_rule_removes_nothing_of_which_nothing_is_known() -> None:
    statistics = {"a": SiteStatistics(np.zeros((2, 4), np.int64), np.zeros((2, 4)), np.array([9, 0]))}
    assert not len(threshold_plan(statistics, (1,), apoz_threshold=0.0, mean_threshold=1.0)["a"])
