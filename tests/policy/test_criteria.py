"""Every criterion ranks channels by its definition."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensai.activations import SiteStatistics, Statistics
from sensai.policy.criteria import CRITERIA
from sensai.policy.criterion_inputs import Criterion, criterion_of, norms_of_filters
from sensai.policy.plans import WidthRule, flops_plans, ratio_plan
from sensai.sites import Plan, find_sites
from tests.helpers.networks import images_for, shared
from tests.policy.plan_checks import (
    BY_MEAN,
    BY_TAYLOR,
    CLASSES,
    RATIOS,
    RULES,
    assert_plans_equal,
    assert_sound,
    checked,
    every_criterion,
    one_class,
    statistics_of_sites,
    with_sensitivities,
)


@pytest.mark.parametrize("name", CRITERIA)
@checked
@given(
    statistics=statistics_of_sites(),
    classes=CLASSES,
    ratio=RATIOS,
    rule=RULES,
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
    # A removed channel never ranks behind a kept one of the same site.
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
    # By their values the channels of `small` would all go first; scaled to length 1, (3, 4) and (0.03, 0.04) are equal.
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
    # Of 50 removed channels, 20 are expected in `a` (standard deviation about 2.5).
    assert np.mean([len(removed(seed, (0,))["a"]) for seed in range(100)]) == pytest.approx(20, abs=1)


@pytest.mark.parametrize("criterion", [BY_MEAN, criterion_of("random")])
def test_a_flops_target_goes_by_the_criterion_too(criterion: Criterion) -> None:
    generator = np.random.default_rng(0)
    statistics = {"a": SiteStatistics(generator.integers(0, 99, (1, 30)), generator.random((1, 30)), np.array([100]))}
    (plan,) = flops_plans([criterion(statistics, (0,))], flops=lambda removed: 30 - removed[:, 0], target=20)
    assert_plans_equal(plan, ratio_plan(statistics, (0,), ratio=10 / 30, criterion=criterion))
    assert plan["a"].tolist() != ratio_plan(statistics, (0,), ratio=10 / 30)["a"].tolist()
