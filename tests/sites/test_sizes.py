"""The size of a member is predicted exactly, and a FLOPs target is met by the smallest ratio."""

from typing import Any

import numpy as np
import pytest

from sensai.activations import SiteStatistics, Statistics
from sensai.grouping.partitions import Group
from sensai.policy.plans import BY_APOZ, WidthRule, flops_plans, ratio_plan
from sensai.pruning import head_rows, member_network
from sensai.sites import SiteMap, SizePrediction, count_flops, count_params, find_sites
from tests.helpers.networks import CONTRACT, contract_id, images_for, random_plan, shared, sites_of, three_layers

CLASSES = 10


def random_statistics(sites: SiteMap, seed: int = 0) -> Statistics:
    generator = np.random.default_rng(seed)
    return {
        site.name: SiteStatistics(
            generator.integers(0, 100, (CLASSES, site.channels)),
            generator.random((CLASSES, site.channels)),
            np.full(CLASSES, 100),
        )
        for site in sites.sites
    }


@pytest.mark.parametrize(("arch", "arch_args"), CONTRACT, ids=contract_id)
@pytest.mark.parametrize("classes", [(3,), (1, 4, 7), tuple(range(CLASSES))], ids=["binary", "group", "control"])
def test_predicted_sizes_are_those_of_the_built_member(arch: str, arch_args: dict[str, Any], classes: Group) -> None:
    network, spec = shared(arch, arch_args)
    sites = sites_of(arch, arch_args)
    prediction = SizePrediction(network, sites, spec.input_shape)
    plan = random_plan(sites, 0.5, len(classes), emptied=0.4)
    member = member_network(network, sites, plan, classes, CLASSES)
    predicted = prediction(plan, head_rows(len(classes), CLASSES))
    assert predicted == (count_params(member), count_flops(member, spec.input_shape))
    assert prediction({}, CLASSES) == (count_params(network), count_flops(network, spec.input_shape))


def test_a_layer_that_reads_many_pixels_of_a_channel() -> None:
    network = three_layers()
    sites = find_sites(network, images_for(_three_layer_spec(), 2))
    prediction = SizePrediction(network, sites, (1, 6, 6))
    # One channel of conv1 and one of conv2 less: 9 + 2 + 20 + 76 parameters, 324 + 162 + 72 multiply-accumulates.
    assert prediction({"conv1": np.array([0]), "conv2": np.array([1])}, 4) == (107, 2 * 558)


def test_shortcuts_without_parameters_count_nothing() -> None:
    network, spec = shared("resnet20", {"shortcut": "parameter_free"})
    # (32, 32) pixels of 16 channels, then a quarter of the pixels and twice the channels in each stage. All layers have
    # equal FLOPs, except the first of a stage, which reads half as many channels.
    first, half, equal = 32 * 32 * 9 * 3 * 16, 16 * 16 * 9 * 16 * 32, 32 * 32 * 9 * 16 * 16
    assert count_flops(network, spec.input_shape) == 2 * (first + 2 * half + 16 * equal + 64 * 10)
    projected, _ = shared("resnet20", {})
    assert count_flops(projected, spec.input_shape) - count_flops(network, spec.input_shape) == 2 * 2 * half // 9


def _three_layer_spec() -> Any:
    from sensai.models.factory import NetworkSpec

    return NetworkSpec("three_layers", 4, 1, (6, 6))


@pytest.mark.parametrize("ranking", ["global", "layer"])
@pytest.mark.parametrize("round_to", [1, 8])
@pytest.mark.parametrize("share", [1.0, 0.7, 0.3, 0.055])
def test_the_smallest_ratio_that_meets_the_target(share: float, ranking: Any, round_to: int) -> None:
    network, spec = shared("small_cnn", {})
    sites = sites_of("small_cnn")
    prediction = SizePrediction(network, sites, spec.input_shape)
    statistics, target, rule = random_statistics(sites), share * prediction.flops, WidthRule(round_to=round_to)

    ratios = (removed / sites.channels for removed in range(sites.channels))
    plans = (ratio_plan(statistics, [2], ratio=ratio, ranking=ranking, rule=rule) for ratio in ratios)
    expected = next(plan for plan in plans if prediction(plan, 1)[1] <= target)
    (found,) = flops_plans(
        [BY_APOZ(statistics, [2])],
        flops=lambda removed: prediction.at(removed, 1)[1],
        target=target,
        ranking=ranking,
        rule=rule,
    )
    assert {site: removed.tolist() for site, removed in found.items()} == {
        site: removed.tolist() for site, removed in expected.items()
    }


def test_a_target_out_of_reach_gives_the_smallest_member() -> None:
    network, spec = shared("vgg11_bn", {})
    sites = sites_of("vgg11_bn")
    prediction = SizePrediction(network, sites, spec.input_shape)
    keys = [BY_APOZ(random_statistics(sites), [label]) for label in (2, 3)]
    rule = WidthRule(min_channels=8)
    for plan in flops_plans(keys, flops=lambda removed: prediction.at(removed, 1)[1], target=1, rule=rule):
        assert {site.channels - len(plan[site.name]) for site in sites.sites} == {8}
