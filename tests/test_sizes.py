"""The size of a member is known, exactly, before it is built, and a FLOPs target is met by the smallest ratio."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from sensai.activations import SiteStatistics, Statistics
from sensai.errors import InputError
from sensai.grouping import Group
from sensai.policy import WidthRule, flops_plan, ratio_plan
from sensai.pruning import head_rows, member_network
from sensai.sites import Plan, SiteMap, SizePrediction, count_flops, count_params, find_sites
from sensai.stages import prune
from sensai.stages.configs import PruneConfig
from tests.helpers.networks import CONTRACT, contract_id, images_for, shared, sites_of, three_layers
from tests.helpers.pipeline import Place

CLASSES = 10


def random_plan(sites: SiteMap, seed: int) -> Plan:
    generator = np.random.default_rng(seed)
    counts = {site.name: int(generator.integers(site.channels)) for site in sites.sites}
    return {s.name: np.sort(generator.permutation(s.channels)[: counts[s.name]]) for s in sites.sites}


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
    plan = random_plan(sites, len(classes))
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

    def flops(plan: Plan) -> int:
        return prediction(plan, 1)[1]

    ratios = (removed / sites.channels for removed in range(sites.channels))
    plans = (ratio_plan(statistics, [2], ratio=ratio, ranking=ranking, rule=rule) for ratio in ratios)
    expected = next(plan for plan in plans if flops(plan) <= target)
    by_ratio = partial(ratio_plan, statistics, [2], ranking=ranking, rule=rule)
    found = flops_plan(by_ratio, sites.channels, flops=flops, target=target)
    assert {site: removed.tolist() for site, removed in found.items()} == {
        site: removed.tolist() for site, removed in expected.items()
    }


def test_a_target_out_of_reach_gives_the_smallest_member() -> None:
    network, spec = shared("vgg11_bn", {})
    sites = sites_of("vgg11_bn")
    prediction = SizePrediction(network, sites, spec.input_shape)
    rule = WidthRule(min_channels=8)
    by_ratio = partial(ratio_plan, random_statistics(sites), [2], rule=rule)
    plan = flops_plan(by_ratio, sites.channels, flops=lambda p: prediction(p, 1)[1], target=1)
    assert {site.channels - len(plan[site.name]) for site in sites.sites} == {8}


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory, empty_database: Any) -> Place:
    return Place.make(tmp_path_factory.mktemp("target"), empty_database)


def test_prune_meets_a_target_or_says_what_is_in_reach(place: Place) -> None:
    with place.active():
        run = place.run(prune.run(place.config("prune", target_flops=0.2)))
        metrics = run.data.metrics
        assert metrics["flops_max"] <= 0.2 * metrics["flops_base"]
        assert metrics["flops_max"] > 0.15 * metrics["flops_base"]
        assert "target_flops=0.2" in run.info.run_name
        with pytest.raises(InputError, match=r"target_flops=1e-05: .* no less than 0\.\d+ can be reached"):
            prune.run(place.config("prune", target_flops=1e-5))


def test_a_target_replaces_the_ratio() -> None:
    given = PruneConfig(target_flops=0.5, ratio=0.1).fingerprint_parameters()
    assert given == PruneConfig(target_flops=0.5, ratio=0.9).fingerprint_parameters()
    assert given != PruneConfig(target_flops=0.4).fingerprint_parameters()
    with pytest.raises(ValueError, match="goes with policy=ratio"):
        PruneConfig(target_flops=0.5, policy="threshold")
