"""The removable channels of every network, against what its blocks say by their names."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensai.sites import Cut, Site, SiteMap, count_flops, count_params, find_sites
from tests.helpers.networks import (
    CONTRACT,
    assert_same,
    blocks_per_stage,
    contract_id,
    images_for,
    make,
    norm_behind,
    shared,
    snapshot,
    three_layers,
)


def expected_adders(network: nn.Module, arch: str, arch_args: dict[str, Any]) -> tuple[dict[str, list[str]], list[str]]:
    """What `find_sites` must find: site -> the convolutions that make its channels; and those that are kept whole."""
    if not arch.startswith("resnet"):
        return {name: [name] for name, each in network.named_modules() if isinstance(each, nn.Conv2d)}, []
    bottleneck = arch_args.get("block", "bottleneck" if arch in ("resnet110", "resnet164") else "basic") == "bottleneck"
    inside, last = (["conv1", "conv2"], "conv3") if bottleneck else (["conv1"], "conv2")
    sites: dict[str, list[str]] = {}
    streams: list[list[str]] = [["conv1"]]
    for stage in (1, 2, 3):
        # The stream goes on where the shortcut is the identity; a projection starts another one.
        if stage > 1 or bottleneck:
            streams.append([])
        for block in range(blocks_per_stage(network)):
            path = f"layer{stage}.{block}"
            sites |= {f"{path}.{name}": [f"{path}.{name}"] for name in inside}
            streams[-1].append(f"{path}.{last}")
            if block == 0 and (stage > 1 or bottleneck):
                streams[-1].append(f"{path}.shortcut.0")
    if arch_args.get("shortcut") == "parameter_free":
        return sites, [name for stream in streams for name in stream if "shortcut" not in name]
    return sites | {stream[0]: stream for stream in streams}, []


@pytest.mark.parametrize(("arch", "arch_args"), CONTRACT, ids=contract_id)
def test_the_sites_of_every_architecture(arch: str, arch_args: dict[str, Any]) -> None:
    network, spec = shared(arch, arch_args)
    found = find_sites(network, images_for(spec, 2))
    expected, whole = expected_adders(network, arch, arch_args)
    assert {site.name: sorted(site.adders) for site in found.sites} == {
        name: sorted(adders) for name, adders in expected.items()
    }
    assert sorted(found.kept_whole) == sorted(whole)
    assert all(found.kept_whole.values())
    assert found.head == ("linear" if arch.startswith("resnet") else "classifier")
    order = [name for name, _ in network.named_modules()]
    positions = [order.index(site.name) for site in found.sites]
    assert positions == sorted(positions)
    for site in found.sites:
        assert site.channels == network.get_submodule(site.name).out_channels
        assert {*site.producers} == {*site.adders, *map(norm_behind, site.adders)}
        for cut in site.cuts:
            assert len(cut.index) == site.channels
            assert len(np.unique(cut.index)) == cut.index.size
    assert found.channels == sum(network.get_submodule(name).out_channels for name in expected)


@pytest.mark.parametrize(("arch", "arch_args"), CONTRACT, ids=contract_id)
def test_the_inner_scope_leaves_streams_whole(arch: str, arch_args: dict[str, Any]) -> None:
    network, spec = shared(arch, arch_args)
    everything = find_sites(network, images_for(spec, 2))
    inner = everything.within("inner")
    expected, _ = expected_adders(network, arch, arch_args)
    streams = [name for name, adders in expected.items() if len(adders) > 1]
    assert [site.name for site in inner.sites] == [s.name for s in everything.sites if s.name not in streams]
    assert inner.kept_whole.keys() - everything.kept_whole.keys() == {*streams}
    assert all("scope=inner" in inner.kept_whole[name] for name in streams)
    assert everything.within("all") == everything


def test_a_flattened_image_maps_each_channel_onto_its_pixels() -> None:
    found = find_sites(three_layers(), torch.zeros(2, 1, 6, 6))
    first, second = found.sites
    assert (first.name, first.channels, second.name, second.channels) == ("conv1", 2, "conv2", 3)
    cuts = {(cut.layer, cut.side): cut.index.tolist() for cut in first.cuts}
    assert cuts == {("conv1", "out"): [[0], [1]], ("bn1", "out"): [[0], [1]], ("conv2", "in"): [[0], [1]]}
    cuts = {(cut.layer, cut.side): cut.index.tolist() for cut in second.cuts}
    assert cuts == {
        ("conv2", "out"): [[0], [1], [2]],
        ("linear", "in"): [list(range(0, 9)), list(range(9, 18)), list(range(18, 27))],
    }
    assert found.head == "linear"


class _Concatenated(nn.Module):
    """The layer `last` reads the channels of `first` and behind them those of `second`."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.second = nn.Conv2d(1, 3, 3, padding=1)
        self.last = nn.Conv2d(5, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat([F.relu(self.first(x)), F.relu(self.second(x))], 1)).mean((2, 3))


def test_concatenated_channels_are_found_where_they_lie() -> None:
    found = find_sites(_Concatenated(), torch.zeros(2, 1, 4, 4))
    assert found.head == "last"
    read = {site.name: next(cut.index[:, 0].tolist() for cut in site.cuts if cut.side == "in") for site in found.sites}
    assert read == {"first": [0, 1], "second": [2, 3, 4]}


class _WithParameter(nn.Module):
    """A scale of each channel that is no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))
        self.second = nn.Conv2d(4, 6, 3, padding=1)
        self.linear = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.second(F.relu(self.first(x) * self.scale))).mean((2, 3)))


@pytest.mark.filterwarnings("ignore:Unwrapped parameters")
def test_a_group_with_tensors_that_are_not_cut_is_kept_whole_with_its_reason() -> None:
    found = find_sites(_WithParameter(), torch.zeros(2, 1, 4, 4))
    assert [site.name for site in found.sites] == ["second"]
    assert found.kept_whole == {"first": "a tensor outside the layers (scale)"}


def _site(name: str, channels: int, *cuts: tuple[str, str, list[list[int]]]) -> Site:
    return Site(name, channels, (name,), tuple(Cut(layer, side, np.array(index)) for layer, side, index in cuts))


def test_the_masks_of_a_plan_follow_the_tables() -> None:
    network = three_layers()
    sites = find_sites(network, torch.zeros(2, 1, 6, 6))
    masks = sites.kept({"conv1": np.array([], np.int64), "conv2": np.array([0, 2])}, network)
    assert masks.keys() == {("conv2", "out"), ("linear", "in")}
    assert masks["conv2", "out"].tolist() == [False, True, False]
    assert np.flatnonzero(masks["linear", "in"]).tolist() == list(range(9, 18))
    assert sites.kept({}, network) == {}


def test_two_sites_that_meet_in_one_layer_share_its_mask() -> None:
    network = _Concatenated()
    sites = find_sites(network, torch.zeros(2, 1, 4, 4))
    masks = sites.kept({"first": np.array([0]), "second": np.array([2])}, network)
    assert masks["last", "in"].tolist() == [False, True, True, True, False]


def test_sites_can_be_left_out_with_a_reason() -> None:
    sites = SiteMap((_site("a", 2), _site("b", 3)), {"c": "before"}, "head")
    rest = sites.without({"a": "now"})
    assert [site.name for site in rest.sites] == ["b"]
    assert rest.kept_whole == {"c": "before", "a": "now"}
    assert rest.channels == 3
    assert len(sites.sites) == 2
    assert sites.kept_whole == {"c": "before"}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("arch", ["small_cnn", "resnet20"])
def test_finding_sites_leaves_the_network_as_it_was(arch: str, training: bool) -> None:
    network, spec = make(arch)
    network.train(training)
    for position, parameter in enumerate(network.parameters()):
        parameter.requires_grad_(position % 3 != 0)
    before = snapshot(network)
    find_sites(network, images_for(spec, 2))
    assert_same(network, before)


def test_frozen_networks_have_the_same_sites() -> None:
    network, spec = make("resnet20")
    free = find_sites(network, images_for(spec, 2))
    frozen = find_sites(network.requires_grad_(False), images_for(spec, 1))
    assert [(site.name, site.channels, site.adders) for site in frozen.sites] == [
        (site.name, site.channels, site.adders) for site in free.sites
    ]


class _HeadDeclaredFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(3, 2)
        self.body = nn.Conv2d(1, 3, 3)
        self.unused = nn.Linear(7, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.body(x).mean((2, 3)))


def test_the_head_is_what_is_called_last_not_what_is_declared_last() -> None:
    network = _HeadDeclaredFirst().eval()
    before = snapshot(network)
    assert find_sites(network, torch.zeros(1, 1, 4, 4)).head == "output"
    assert_same(network, before)


def test_parameters_and_flops_equal_a_count_by_hand() -> None:
    network = three_layers()
    assert count_params(network) == 191
    assert count_flops(network, (1, 6, 6)) == 2 * 1242


@pytest.mark.parametrize(("arch", "arch_args"), [("vgg11_bn", {}), ("resnet20", {}), ("small_cnn", {})])
def test_flops_equal_the_sum_over_layers(arch: str, arch_args: dict[str, Any]) -> None:
    network, spec = shared(arch, arch_args)
    macs = []

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            macs.append(output[0].numel() * module.in_channels * module.kernel_size[0] * module.kernel_size[1])
        else:
            macs.append(module.in_features * module.out_features)

    layers = [each for each in network.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        network(images_for(spec, 3))
    for handle in handles:
        handle.remove()
    assert count_flops(network, spec.input_shape) == 2 * sum(macs)
