"""The removable channels of every network equal those that the names of its blocks imply."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensai.errors import InputError
from sensai.pruning import member_network, provable, pruning_error
from sensai.sites import Cut, Site, SiteMap, SizePrediction, count_flops, count_params, find_sites
from tests.helpers.networks import (
    CONTRACT,
    assert_same,
    blocks_per_stage,
    contract_id,
    images_for,
    make,
    norm_behind,
    shared,
    sites_of,
    snapshot,
    three_layers,
)


def expected_producers(
    network: nn.Module, arch: str, arch_args: dict[str, Any]
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the expected result of `find_sites`: site -> the convolutions that make its channels; and those kept whole."""
    if arch == "mobilenetv2":
        return _mobilenetv2_producers(network)
    if arch == "shufflenetv2":
        return _shufflenetv2_producers(network)
    if not arch.startswith("resnet"):
        return {name: [name] for name, each in network.named_modules() if isinstance(each, nn.Conv2d)}, []
    bottleneck = arch_args.get("block", "bottleneck" if arch in ("resnet110", "resnet164") else "basic") == "bottleneck"
    inside, last = (["conv1", "conv2"], "conv3") if bottleneck else (["conv1"], "conv2")
    shortcut = "shortcut" if arch_args.get("shortcut") == "parameter_free" else "shortcut.0"
    sites: dict[str, list[str]] = {}
    streams: list[list[str]] = [["conv1"]]
    for stage in (1, 2, 3):
        # The stream continues where the shortcut is the identity; elsewhere a new one begins.
        if stage > 1 or bottleneck:
            streams.append([])
        for block in range(blocks_per_stage(network)):
            path = f"layer{stage}.{block}"
            sites |= {f"{path}.{name}": [f"{path}.{name}"] for name in inside}
            streams[-1].append(f"{path}.{last}")
            if block == 0 and (stage > 1 or bottleneck):
                streams[-1].append(f"{path}.{shortcut}")
    return sites | {stream[0]: stream for stream in streams}, []


def _mobilenetv2_producers(network: nn.Module) -> tuple[dict[str, list[str]], list[str]]:
    sites: dict[str, list[str]] = {"conv1": ["conv1"], "conv2": ["conv2"]}
    stream: list[str] = []
    for position, block in enumerate(network.layers):
        path = f"layers.{position}"
        sites[f"{path}.conv1"] = [f"{path}.conv1", f"{path}.conv2"]
        if not isinstance(block.shortcut, nn.Identity):
            sites[f"{path}.conv3"] = stream = []
        stream.append(f"{path}.conv3")
        if isinstance(block.shortcut, nn.Sequential):
            stream.append(f"{path}.shortcut.0")
    return sites, []


def _shufflenetv2_producers(network: nn.Module) -> tuple[dict[str, list[str]], list[str]]:
    """Return all channels inside the blocks; shuffled channels stay."""
    sites: dict[str, list[str]] = {"conv1": ["conv1", "layer1.0.conv1"], "conv2": ["conv2"]}
    whole = ["layer2.0.conv1", "layer3.0.conv1"]
    for stage in (1, 2, 3):
        for position in range(len(network.get_submodule(f"layer{stage}"))):
            path, first = f"layer{stage}.{position}", position == 0
            inside = ["conv3", "conv4"] if first else ["conv1", "conv2"]
            sites[f"{path}.{inside[0]}"] = [f"{path}.{name}" for name in inside]
            whole += [f"{path}.{name}" for name in (["conv2", "conv5"] if first else ["conv3"])]
    return sites, whole


@pytest.mark.parametrize(("arch", "arch_args"), CONTRACT, ids=contract_id)
def test_the_sites_of_every_architecture(arch: str, arch_args: dict[str, Any]) -> None:
    network, _ = shared(arch, arch_args)
    found = sites_of(arch, arch_args)
    expected, whole = expected_producers(network, arch, arch_args)
    assert {site.name: sorted(site.producers) for site in found.sites} == {
        name: sorted(producers) for name, producers in expected.items()
    }
    assert sorted(found.kept_whole) == sorted(whole)
    assert all(found.kept_whole.values())
    assert found.head == ("classifier" if arch.startswith(("vgg", "small")) else "linear")
    order = [name for name, _ in network.named_modules()]
    positions = [order.index(site.name) for site in found.sites]
    assert positions == sorted(positions)
    for site in found.sites:
        assert site.channels == network.get_submodule(site.name).out_channels
        assert {cut.layer for cut in site.cuts if cut.side == "out"} == {
            *site.producers,
            *map(norm_behind, site.producers),
        }
        for cut in site.cuts:
            assert len(cut.index) == site.channels
            assert len(np.unique(cut.index)) == cut.index.size
    assert found.channels == sum(network.get_submodule(name).out_channels for name in expected)


@pytest.mark.parametrize(("arch", "arch_args"), CONTRACT, ids=contract_id)
def test_the_inner_scope_leaves_streams_whole(arch: str, arch_args: dict[str, Any]) -> None:
    network, _ = shared(arch, arch_args)
    everything = sites_of(arch, arch_args)
    inner = everything.within("inner")
    expected, _ = expected_producers(network, arch, arch_args)
    # A depthwise convolution makes no channels of its own.
    own = {name: [a for a in producers if network.get_submodule(a).groups == 1] for name, producers in expected.items()}
    streams = [name for name in (site.name for site in everything.sites) if len(own[name]) > 1]
    assert [site.name for site in inner.sites] == [s.name for s in everything.sites if s.name not in streams]
    assert inner.kept_whole.keys() - everything.kept_whole.keys() == {*streams}
    assert all("scope=inner" in inner.kept_whole[name] for name in streams)
    assert everything.within("all") == everything


@pytest.mark.parametrize(
    ("producers", "reason"),
    [
        (("a",), "to each other"),
        (("a", "b"), "to those of 1 other layer"),
        (("a", "b", "c"), "to those of 2 other layers"),
    ],
)
def test_the_reason_counts_the_other_layers(producers: tuple[str, ...], reason: str) -> None:
    sites = SiteMap((Site("a", 4, producers, (), stream=True),), {}, "head")
    assert sites.within("inner").kept_whole == {"a": f"scope=inner: its channels are added {reason}"}


def expected_branches(network: nn.Module, arch: str, arch_args: dict[str, Any], sites: SiteMap) -> list[set[str]]:
    """Return the sites that may only be emptied together, in their order: inside blocks beside a shortcut."""
    names = [site.name for site in sites.sites]
    if arch == "mobilenetv2":
        shortcuts = (
            f"layers.{number}.conv1" for number, each in enumerate(network.layers) if each.shortcut is not None
        )
        return [{name} for name in shortcuts]
    if arch == "shufflenetv2":
        # Half of the channels, or those of another branch, bypass each block.
        return [{name} for name in names if name.startswith("layer")]
    if not arch.startswith("resnet"):
        return []
    paths = (f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(blocks_per_stage(network)))
    return [{f"{path}.{inside}" for inside in ("conv1", "conv2")} & {*names} for path in paths]


@pytest.mark.parametrize(("arch", "arch_args"), CONTRACT, ids=contract_id)
def test_what_may_be_emptied_lies_beside_a_shortcut(arch: str, arch_args: dict[str, Any]) -> None:
    network, _ = shared(arch, arch_args)
    sites = sites_of(arch, arch_args)
    inner = [site.name for site in sites.within("inner").sites]
    expected = expected_branches(network, arch, arch_args, sites)
    assert sites.branches == {
        name: tuple(n for n in inner if n in own) for own in expected for name in inner if name in own
    }
    assert sites.within("inner").branches == sites.branches


class _Pair(nn.Module):
    """Two added branches without a shortcut, and a gate behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = (nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1)) for _ in range(2))
        self.gate = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 3, 1), nn.Sigmoid())
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.left(x) + self.right(x)
        return self.linear((x * self.gate(x)).mean((2, 3)))


def test_of_two_branches_without_a_shortcut_only_one_may_be_emptied() -> None:
    sites = find_sites(_Pair(), torch.zeros(2, 1, 4, 4))
    assert [site.name for site in sites.sites] == ["left.0", "left.2", "right.0", "gate.0"]
    assert sites.branches == {"left.0": ("left.0",), "gate.0": ("gate.0",)}


def test_a_site_that_is_kept_whole_is_not_emptied() -> None:
    sites = sites_of("resnet20", {"block": "bottleneck"})
    branches = sites.without({"layer1.1.conv1": "for a test"}).branches
    assert branches["layer1.1.conv2"] == ("layer1.1.conv2",)
    assert sites.branches.keys() - branches.keys() == {"layer1.1.conv1"}


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
    """A network whose layer `last` reads the channels of `first` followed by those of `second`."""

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
    """A scale of each channel that belongs to no layer."""

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
    assert [(site.name, site.channels, site.producers) for site in frozen.sites] == [
        (site.name, site.channels, site.producers) for site in free.sites
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


# --------------------------------------------------------------------------------- networks that nobody here has seen


class _Tail(nn.Module):
    """Two convolutions with something between them, then pooling and a linear layer, five classes."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.second = nn.Conv2d(width, 6, 1)
        self.linear = nn.Linear(6, 5)

    def between(self, x: Tensor) -> Tensor:
        return F.relu(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.second(self.between(self.first(x)))).mean((2, 3)))


class _Squeezed(_Tail):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(8, 3, 1), nn.Conv2d(3, 8, 1)

    def between(self, x: Tensor) -> Tensor:
        x = F.hardswish(x)
        return x * torch.sigmoid(self.up(F.silu(self.down(F.adaptive_avg_pool2d(x, 1)))))


class _Grouped(_Tail):
    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.second = nn.Conv2d(12, 6, 1)

    def between(self, x: Tensor) -> Tensor:
        return F.relu6(self.grouped(F.relu6(x)))


class _Shuffled(_Tail):
    def between(self, x: Tensor) -> Tensor:
        return F.channel_shuffle(F.relu(x), 2)


class _Chunked(_Tail):
    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(4, 6, 1)

    def between(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        return F.relu(left) * torch.sigmoid(right)


class _Normalised(_Tail):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 8)

    def between(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(x))


class _Gated(_Tail):
    """The sigmoid of a removed channel is a half, not zero: only the proof detects it."""

    def between(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)


class _BakedIn(_Tail):
    """A width written into the code."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.second(F.relu(self.first(x)).mean((2, 3)).view(-1, 8))))


class _Padded(_Tail):
    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(12, 6, 1)

    def between(self, x: Tensor) -> Tensor:
        return F.pad(F.relu(x), (0, 0, 0, 0, 2, 2))


class _Shared(_Tail):
    """One layer called twice on the same channels."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(8, 8, 3, padding=1)

    def between(self, x: Tensor) -> Tensor:
        return F.relu(self.twice(F.relu(self.twice(F.relu(x)))))


class _Tokens(_Tail):
    """A linear layer on the last axis, as in networks of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.back = nn.Linear(8, 10), nn.Linear(10, 8)

    def between(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        tokens = self.back(F.gelu(self.hidden(tokens)))
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class _OtherConvolution(_Tail):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.ConvTranspose2d(8, 8, 2, stride=2)

    def between(self, x: Tensor) -> Tensor:
        return F.relu(self.other(F.relu(x)))


@pytest.mark.parametrize(
    ("make_network", "removable", "whole"),
    [
        (_Tail, {"first": 8, "second": 6}, {}),
        (_Squeezed, {"first": 8, "down": 3, "second": 6}, {}),
        (_Grouped, {"first": 4, "second": 6}, {}),
        (_Shuffled, {"second": 6}, {"first": "its place among the channels matters to channel_shuffle"}),
        (_Chunked, {"second": 6}, {"first": "its place among the channels matters to chunk"}),
        (_Normalised, {"second": 6}, {"first": "group_norm may mix its channels with others"}),
        (_Gated, {"second": 6}, {"first": "cut and masked differ by"}),
        (_BakedIn, {"second": 6}, {"first": "the cut network fails"}),
        (_Padded, {"second": 6}, {"first": "zeros are added beside its channels"}),
        (_Shared, {"first": 8, "second": 6}, {}),
        (_Tokens, {"first": 8, "hidden": 10, "back": 8, "second": 6}, {}),
        (
            _OtherConvolution,
            {"second": 6},
            {
                "first": "conv_transpose2d is out of scope: convolutions are cut",
                "other": "ConvTranspose2d is out of scope",
            },
        ),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_every_form_is_cut_exactly_or_kept_whole_with_the_reason(
    make_network: type[_Tail], removable: dict[str, int], whole: dict[str, str]
) -> None:
    torch.manual_seed(0)
    network, images = make_network().eval(), torch.randn(8, 3, 6, 6)
    sites = provable(network, find_sites(network, images), images)
    assert {site.name: site.channels for site in sites.sites} == removable
    assert sites.kept_whole.keys() >= whole.keys()
    assert all(reason in sites.kept_whole[layer] for layer, reason in whole.items())
    prediction = SizePrediction(network, sites, (3, 6, 6))
    generator = np.random.default_rng(0)
    for _ in range(5):
        plan = {
            site.name: np.sort(generator.permutation(site.channels)[: generator.integers(site.channels)])
            for site in sites.sites
        }
        error, tolerance = pruning_error(network, sites, plan, images)
        assert error <= tolerance
        member = member_network(network, sites, plan, (1, 3), 5)
        assert prediction(plan, 3) == (count_params(member), count_flops(member, (3, 6, 6)))


def test_a_group_of_a_grouped_convolution_goes_as_a_whole() -> None:
    torch.manual_seed(0)
    network, images = _Grouped().eval(), torch.randn(2, 3, 6, 6)
    sites = find_sites(network, images)
    cuts = {(cut.layer, cut.side): cut.index.tolist() for cut in sites.sites[0].cuts}
    assert cuts == {
        ("first", "out"): [[0, 1], [2, 3], [4, 5], [6, 7]],
        ("grouped", "out"): [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]],
        ("second", "in"): [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]],
    }
    small = member_network(network, sites, {"first": np.array([1, 3])}, (0,), 5)
    assert (small.grouped.groups, small.grouped.in_channels, small.grouped.out_channels) == (2, 4, 6)
    assert torch.equal(small.grouped.weight, network.grouped.weight[[0, 1, 2, 6, 7, 8]])


class _TwoHeads(_Tail):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([super().forward(x), super().forward(x.flip(3))], 1)


class _BranchesOnData(_Tail):
    def between(self, x: Tensor) -> Tensor:
        return F.relu(x) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (_TwoHeads(), "must end in one linear layer or convolution whose rows are its output"),
        (_BranchesOnData(), "cannot be followed by torch.export"),
    ],
)
def test_networks_that_cannot_be_taken_apart_are_refused(network: nn.Module, message: str) -> None:
    before = snapshot(network)
    with pytest.raises(InputError, match=message):
        find_sites(network, torch.zeros(2, 3, 6, 6))
    assert_same(network, before)
