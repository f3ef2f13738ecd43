"""A pruned network computes what the full one computes with the same channels set to zero.

The test masks by itself: with a hook behind the batch norm of each convolution. It names these by the architecture and not
by the tables of pruning.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sensai.models.resnet import ResNet
from sensai.models.widths import widths
from sensai.pruning import features, masked, member_network, provable, prune, prune_further, pruning_error
from sensai.sites import Plan, SiteMap, count_flops, count_params, find_sites
from tests.helpers.networks import (
    CONTRACT,
    assert_same,
    contract_id,
    images_for,
    make,
    norm_behind,
    random_plan,
    randomise,
    shared,
    sites_of,
    snapshot,
    three_layers,
)

# Shrinking an example of a large network takes longer than reading it.
few = settings(max_examples=6, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
fewer = settings(few, max_examples=2)

DEEP = ("resnet110", "resnet164", "vgg19_bn")

# Every architecture is tested in both scopes; without a residual stream they are the same.
CASES = [
    (arch, arch_args, scope)
    for arch, arch_args in CONTRACT
    for scope in ("inner", "all")
    if scope == "inner" or arch == "mobilenetv2" or arch.startswith("resnet")
]


@contextmanager
def zeroed(network: nn.Module, channels: dict[str, np.ndarray]) -> Iterator[None]:
    """Set some channels of the outputs of some modules to zero within the block."""

    def hook_for(removed: np.ndarray) -> Any:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            output = output.clone()
            output[:, removed.tolist()] = 0
            return output

        return hook

    handles = [
        network.get_submodule(name).register_forward_hook(hook_for(removed)) for name, removed in channels.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def read_by(network: nn.Module, head: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the input and the output of the head."""
    seen: list[Tensor] = []
    handle = network.get_submodule(head).register_forward_hook(lambda _m, inputs, out: seen.extend([inputs[0], out]))
    with torch.no_grad():
        network(images)
    handle.remove()
    return seen[0], seen[1]


def read_by_head(network: nn.Module) -> str:
    """Return the site whose channels the head reads, one feature a channel."""
    names = dict(network.named_modules())
    if isinstance(network, ResNet):
        return next(name for name in ("layer3.0.conv3", "layer3.0.conv2") if name in names)
    return [name for name, each in names.items() if isinstance(each, nn.Conv2d)][-1]


def assert_same_as_masked(network: nn.Module, sites: SiteMap, plan: Plan, images: Tensor) -> None:
    head = sites.head
    producers = {site.name: site.producers for site in sites.sites}
    with zeroed(network, {norm_behind(producer): plan[name] for name in plan for producer in producers[name]}):
        expected, expected_logits = read_by(network, head, images)
    got, logits = read_by(prune(network, sites, plan), head, images)
    kept = np.delete(np.arange(expected.shape[1]), plan.get(read_by_head(network), []))
    tolerance = 1e-5 * max(1.0, float(expected.abs().max()))
    assert got.shape == (len(images), len(kept))
    assert float((got - expected[:, kept]).abs().max()) <= tolerance
    assert float((logits - expected_logits).abs().max()) <= 1e-4 * max(1.0, float(expected_logits.abs().max()))
    # Masking must have an effect, or the comparison shows nothing.
    full, _ = read_by(network, head, images)
    assert not any(len(removed) for removed in plan.values()) or float((full - expected).abs().max()) > 100 * tolerance


@pytest.mark.parametrize(
    ("arch", "arch_args", "scope"), [case for case in CASES if case[0] not in DEEP], ids=contract_id
)
@few
@given(share=st.floats(0, 1), emptied=st.sampled_from([0, 0.3, 1]), seed=st.integers(0, 2**16))
def test_pruned_equals_masked(
    arch: str, arch_args: dict[str, Any], scope: str, share: float, emptied: float, seed: int
) -> None:
    network, spec = shared(arch, arch_args)
    images = images_for(spec, 2, seed)
    sites = sites_of(arch, arch_args).within(scope)
    assert_same_as_masked(network, sites, random_plan(sites, share, seed, emptied), images)


@pytest.mark.parametrize(("arch", "arch_args", "scope"), [case for case in CASES if case[0] in DEEP], ids=contract_id)
@fewer
@given(share=st.floats(0.05, 0.95), emptied=st.sampled_from([0, 0.5]), seed=st.integers(0, 2**16))
def test_pruned_equals_masked_in_deep_networks(
    arch: str, arch_args: dict[str, Any], scope: str, share: float, emptied: float, seed: int
) -> None:
    network, spec = shared(arch, arch_args)
    images = images_for(spec, 2, seed)
    sites = sites_of(arch, arch_args).within(scope)
    assert_same_as_masked(network, sites, random_plan(sites, share, seed, emptied), images)


@pytest.mark.parametrize(("arch", "arch_args"), CONTRACT, ids=contract_id)
def test_the_own_proof_agrees_for_every_architecture(arch: str, arch_args: dict[str, Any]) -> None:
    network, spec = shared(arch, arch_args)
    images = images_for(spec, 2)
    sites = sites_of(arch, arch_args)
    # No site that tracing found needs to be kept whole.
    assert provable(network, sites, images) == sites
    plan = random_plan(sites, 0.5, seed=1)
    error, tolerance = pruning_error(network, sites, plan, images)
    expected, _ = read_by(network, sites.head, images)
    assert error <= tolerance
    assert 0 < tolerance < 1e-4 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("scope", ["inner", "all"])
@pytest.mark.parametrize(("arch", "arch_args"), [("small_cnn", {}), ("vgg11_bn", {}), ("resnet20", {})])
def test_one_channel_may_be_all_that_stays(arch: str, arch_args: dict[str, Any], scope: str) -> None:
    network, spec = shared(arch, arch_args)
    images = images_for(spec, 2)
    sites = sites_of(arch, arch_args).within(scope)
    plan = {site.name: np.delete(np.arange(site.channels), site.channels // 2) for site in sites.sites}
    assert_same_as_masked(network, sites, plan, images)
    small = prune(network, sites, plan)
    assert all(widths(small)[site.name][0] == 1 for site in sites.sites)


@pytest.mark.parametrize(("arch", "arch_args"), [("resnet20", {}), ("mobilenetv2", {})], ids=contract_id)
def test_a_member_may_lose_all_that_may_be_emptied_first_or_last(arch: str, arch_args: dict[str, Any]) -> None:
    network, spec = shared(arch, arch_args)
    images, sites = images_for(spec, 2), sites_of(arch, arch_args)
    assert sites.branches
    emptied = {site.name: np.arange(site.channels) for site in sites.sites if site.name in sites.branches}
    most = {name: removed[1:] for name, removed in emptied.items()}
    assert_same_as_masked(network, sites, emptied, images)
    member = prune(network, sites, emptied)
    assert all(widths(member)[name][0] == 0 for name in emptied)
    assert_bit_for_bit(prune_further(prune(network, sites, most), network, sites, most, emptied), member)
    rest = emptied | {site.name: np.arange(1, site.channels) for site in sites.sites if site.name not in emptied}
    assert_bit_for_bit(prune_further(member, network, sites, emptied, rest), prune(network, sites, rest))


class _Fragile(nn.Module):
    """Two blocks beside shortcuts, of which the second pools between its layers, which torch does only with channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.first, self.second = (nn.ModuleList([nn.Conv2d(4, 6, 1), nn.Conv2d(6, 4, 1)]) for _ in range(2))
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.first[1](F.relu(self.first[0](x))))
        x = F.relu(x + self.second[1](F.max_pool2d(F.relu(self.second[0](x)), 3, 1, 1)))
        return self.linear(x.mean((2, 3)))


def test_a_site_that_cannot_do_without_channels_keeps_one() -> None:
    network, images = _Fragile().eval(), torch.randn(2, 1, 6, 6)
    found = find_sites(network, images)
    assert found.branches == {"first.0": ("first.0",), "second.0": ("second.0",)}
    sites = provable(network, found, images)
    assert (sites.sites, sites.kept_whole) == (found.sites, found.kept_whole)
    assert sites.branches == {"first.0": ("first.0",)}
    with pytest.raises(ValueError, match=r"'second\.0' would keep 0 of 6 channels"):
        prune(network, sites, {"second.0": np.arange(6)})


def test_a_flattened_image_loses_the_pixels_of_its_channel() -> None:
    network, images = three_layers(), torch.randn(3, 1, 6, 6)
    sites = find_sites(network, images)
    plan = {"conv1": np.array([1]), "conv2": np.array([0, 2])}
    with zeroed(network, {"bn1": plan["conv1"], "conv2": plan["conv2"]}):
        expected, expected_logits = read_by(network, "linear", images)
    small = prune(network, sites, plan)
    got, logits = read_by(small, "linear", images)
    assert torch.allclose(got, expected[:, 9:18], atol=1e-6)
    assert torch.allclose(logits, expected_logits, atol=1e-6)
    assert torch.equal(small.linear.weight, network.linear.weight[:, 9:18])
    assert small.linear.in_features == 9


def test_exactly_the_named_weights_are_gone() -> None:
    network, spec = make("small_cnn")
    sites = sites_of("small_cnn")
    plan = {"features.0": np.array([0, 3, 31]), "features.3": np.array([7])}
    small = prune(network, sites, plan)
    into, out = np.delete(np.arange(32), plan["features.0"]), np.delete(np.arange(32), 7)
    assert torch.equal(small.features[0].weight, network.features[0].weight[into])
    assert torch.equal(small.features[3].weight, network.features[3].weight[out][:, into])
    for field in ("weight", "bias", "running_mean", "running_var"):
        assert torch.equal(getattr(small.features[4], field), getattr(network.features[4], field)[out]), field
    assert torch.equal(small.features[7].weight, network.features[7].weight[:, out])
    assert torch.equal(small.classifier.weight, network.classifier.weight)
    assert widths(small)["features.3"] == (31, 29, 1)
    assert widths(small)["features.4"] == (31,)
    # By hand: 3 filters of 9 weights with their batch norms, then the layers that read or made them.
    gone = 3 * 9 + 3 * 2 + (32 * 32 - 31 * 29) * 9 + 2 + 64 * 9
    assert count_params(small) == count_params(network) - gone
    assert count_flops(small, spec.input_shape) < count_flops(network, spec.input_shape)


def test_an_empty_plan_changes_nothing() -> None:
    network, spec = make("resnet20")
    images = images_for(spec, 2)
    sites = sites_of("resnet20")
    same = prune(network, sites, {site.name: np.array([], np.int64) for site in sites.sites})
    assert widths(same) == widths(network)
    assert torch.equal(features(same, "linear", images), features(network, "linear", images))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_an_emptied_branch_trains(precision: torch.dtype) -> None:
    network, spec = make("resnet20", {"block": "bottleneck"})
    sites = sites_of("resnet20", {"block": "bottleneck"})
    plan = {name: np.arange(32) for name in sites.branches["layer2.1.conv1"]}
    small = prune(network, sites, plan).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    shift = small.layer2[1].bn3.bias.clone()
    for seed in range(2):
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            small(images_for(spec, 4, seed).contiguous(memory_format=torch.channels_last)).sum().backward()
        optimizer.step()
    assert all(bool(value.isfinite().all()) for value in small.state_dict().values())
    assert not torch.equal(small.layer2[1].bn3.bias, shift)


def test_a_pruned_network_trains() -> None:
    network, spec = make("resnet20", {"block": "bottleneck"})
    for position, parameter in enumerate(network.parameters()):
        parameter.requires_grad_(position != 0)
    sites = sites_of("resnet20", {"block": "bottleneck"})
    small = prune(network, sites, random_plan(sites, 0.5, 0)).train()
    before = small.bn1.running_mean.clone()
    small(images_for(spec, 4)).sum().backward()
    assert [parameter.grad is None for parameter in small.parameters()][:2] == [True, False]
    assert not torch.equal(small.bn1.running_mean, before)
    assert all(parameter.grad is None for parameter in network.parameters())


# -------------------------------------------------------------------------------------------------------- cut further


def part_of(plan: Plan, share: float, seed: int) -> Plan:
    """Return a plan with about so many of another one's channels."""
    generator = np.random.default_rng(seed)
    return {site: removed[generator.random(len(removed)) < share] for site, removed in plan.items()}


def assert_bit_for_bit(network: nn.Module, expected: nn.Module) -> None:
    assert widths(network) == widths(expected)
    tensors = expected.state_dict()
    assert network.state_dict().keys() == tensors.keys()
    for name, value in network.state_dict().items():
        assert torch.equal(value, tensors[name]), name


@pytest.mark.parametrize(
    ("arch", "arch_args", "scope"), [case for case in CASES if case[0] not in DEEP], ids=contract_id
)
@fewer
@given(share=st.floats(0.2, 1), first=st.floats(0, 1), seed=st.integers(0, 2**16))
def test_cut_in_two_steps_equals_cut_at_once(
    arch: str, arch_args: dict[str, Any], scope: str, share: float, first: float, seed: int
) -> None:
    network, spec = shared(arch, arch_args)
    images = images_for(spec, 2, seed)
    sites = sites_of(arch, arch_args).within(scope)
    plan = random_plan(sites, share, seed, emptied=0.4)
    before = part_of(plan, first, seed)
    # One class, a group with its "none" row, and all classes.
    for classes in ((3,), (8, 0, 5), tuple(range(10))):
        member = member_network(network, sites, before, classes, 10)
        untouched = snapshot(member)
        further = prune_further(member, network, sites, before, plan)
        at_once = member_network(network, sites, plan, classes, 10)
        assert_bit_for_bit(further, at_once)
        assert_same(member, untouched)
        with torch.no_grad():
            assert torch.equal(further(images), at_once(images))


@pytest.mark.parametrize(
    ("arch", "arch_args"),
    [("small_cnn", {}), ("vgg11_bn", {}), ("resnet20", {}), ("mobilenetv2", {}), ("shufflenetv2", {})],
    ids=contract_id,
)
def test_a_trained_member_cut_further_keeps_what_it_learnt(arch: str, arch_args: dict[str, Any]) -> None:
    network, spec = shared(arch, arch_args)
    images = images_for(spec, 2)
    sites = sites_of(arch, arch_args)
    plan = random_plan(sites, 0.6, seed=1)
    before = part_of(plan, 0.5, seed=2)
    # The weights must differ from the base model's.
    member = randomise(member_network(network, sites, before, (8, 0, 5), 10), seed=3)
    with torch.no_grad():
        for parameter in member.parameters():
            parameter.mul_(1.1)
    # The same channels by the member's own sites, where they have other numbers.
    own = find_sites(member, images)
    rest = {
        site.name: np.flatnonzero(np.isin(np.delete(np.arange(site.channels), before[site.name]), plan[site.name]))
        for site in sites.sites
    }
    assert {site.name for site in own.sites} == rest.keys()
    assert_bit_for_bit(prune_further(member, network, sites, before, plan), prune(member, own, rest))


def test_a_step_to_the_same_plan_changes_nothing() -> None:
    network, _ = shared("small_cnn")
    sites = sites_of("small_cnn")
    plan = random_plan(sites, 0.5, seed=0)
    member = prune(network, sites, plan)
    assert_bit_for_bit(prune_further(member, network, sites, plan, plan), member)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"features.0": [0, 3], "features.3": [1, 7]}, "'features.0' would get back channel 2"),
        ({"features.0": [0, 2, 3], "features.3": [1]}, "'features.3' would get back channel 7"),
        ({"features.3": [1, 7]}, "'features.0' would get back channel 0"),
    ],
)
def test_a_channel_that_is_gone_does_not_come_back(plan: dict[str, list[int]], message: str) -> None:
    network, _ = shared("small_cnn")
    sites = sites_of("small_cnn")
    before = {"features.0": np.array([0, 2, 3]), "features.3": np.array([1, 7])}
    member = prune(network, sites, before)
    with pytest.raises(ValueError, match=message):
        prune_further(member, network, sites, before, {name: np.array(removed) for name, removed in plan.items()})


# ------------------------------------------------------------------------------------------------------ refused plans

SMALL_SITES = ["features.0", "features.3", "features.7", "features.10"]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"features.0": [0, 32]}, "'features.0' has channels 0 to 31, not 32"),
        ({"features.0": [-1, 3]}, "'features.0' has channels 0 to 31, not -1"),
        ({"features.3": [4, 4]}, "'features.3' lists a channel twice"),
        ({"features.7": list(range(64))}, "'features.7' would keep 0 of 64 channels"),
        ({"features.1": [0]}, "'features.1' is no removable site"),
        ({"classifier": [0]}, "'classifier' is no removable site"),
        ({"nonsense": []}, "'nonsense' is no removable site"),
    ],
)
def test_plans_that_do_not_fit_are_refused(plan: dict[str, list[int]], message: str) -> None:
    network, _ = shared("small_cnn")
    sites = sites_of("small_cnn")
    before = snapshot(network)
    with pytest.raises(ValueError, match=message):
        prune(network, sites, {name: np.array(removed, np.int64) for name, removed in plan.items()})
    assert_same(network, before)


def test_the_refusal_says_why_a_layer_is_kept_whole() -> None:
    network, _ = shared("resnet20")
    sites = sites_of("resnet20").within("inner")
    with pytest.raises(ValueError, match=r"'conv1' is no removable site \(scope=inner: .* 3 other layers\)"):
        prune(network, sites, {"conv1": np.array([0])})


# -------------------------------------------------------------------------------------------------- nothing is touched


@pytest.mark.parametrize(("arch", "arch_args"), [("small_cnn", {}), ("vgg11_bn", {}), ("resnet20", {})])
def test_the_given_network_is_left_as_it_was(arch: str, arch_args: dict[str, Any]) -> None:
    network, spec = make(arch, arch_args)
    for position, parameter in enumerate(network.parameters()):
        parameter.requires_grad_(position % 3 != 0)
    images = images_for(spec, 2)
    sites = sites_of(arch, arch_args)
    plan = random_plan(sites, 0.5, 3)
    before = snapshot(network)
    full = features(network, sites.head, images)
    small = prune(network, sites, plan)
    with masked(network, sites, plan), torch.no_grad():
        network(images)
    pruning_error(network, sites, plan, images)
    provable(network, sites, images)
    member_network(network, sites, plan, (3, 1), 10)
    assert_same(network, before)
    assert torch.equal(features(network, sites.head, images), full)
    # The two do not share memory either.
    with torch.no_grad():
        for value in (*small.parameters(), *small.buffers()):
            value.add_(1)
    assert_same(network, before)


def _fail_inside(network: nn.Module, sites: SiteMap, plan: Plan) -> None:
    with masked(network, sites, plan):
        raise KeyError("inside")


def test_hooks_are_gone_after_an_error() -> None:
    network, _ = make("small_cnn")
    sites = sites_of("small_cnn")
    before = snapshot(network)
    with pytest.raises(KeyError, match="inside"):
        _fail_inside(network, sites, {"features.0": np.array([0])})
    with pytest.raises(RuntimeError, match="channels"):
        features(network, sites.head, torch.zeros(1, 5, 8, 8))
    assert_same(network, before)


# ------------------------------------------------------------------------------------------------------ wrong tables


def _with_rolled_cut(sites: SiteMap, name: str, layer: str, side: str) -> SiteMap:
    """Return the map with the table of one layer shifted by one channel."""

    site = next(site for site in sites.sites if site.name == name)
    cut = next(cut for cut in site.cuts if (cut.layer, cut.side) == (layer, side))
    rolled = replace(cut, index=np.roll(cut.index, 1, axis=0))
    wrong = replace(site, cuts=tuple(rolled if each is cut else each for each in site.cuts))
    return replace(sites, sites=tuple(wrong if each is site else each for each in sites.sites))


@pytest.mark.parametrize(
    ("arch", "name", "layer", "side"),
    [
        ("small_cnn", "features.0", "features.3", "in"),
        ("small_cnn", "features.3", "features.4", "out"),
        ("small_cnn", "features.10", "classifier", "in"),
        ("resnet20", "layer2.1.conv1", "layer2.1.conv2", "in"),
        ("resnet20", "layer2.0.conv2", "layer2.0.shortcut.0", "out"),
        ("resnet20", "conv1", "layer1.1.bn2", "out"),
    ],
)
def test_a_wrong_table_is_found_and_only_its_site_kept_whole(arch: str, name: str, layer: str, side: str) -> None:
    network, spec = make(arch)
    images = images_for(spec, 4)
    right = sites_of(arch)
    wrong = _with_rolled_cut(right, name, layer, side)
    before = snapshot(network)
    safe = provable(network, wrong, images)
    assert safe.kept_whole.keys() == {name}
    assert "cut and masked differ by" in safe.kept_whole[name]
    assert [site.name for site in safe.sites] == [site.name for site in right.sites if site.name != name]
    assert_same(network, before)
    with pytest.raises(ValueError, match=f"'{name}' is no removable site .*differ by"):
        prune(network, safe, {name: np.array([0])})


def test_several_wrong_tables_are_all_found() -> None:
    network, spec = make("resnet20")
    images = images_for(spec, 4)
    wrong = sites_of("resnet20")
    for name in ("layer1.0.conv1", "layer1.1.conv1", "layer3.2.conv1"):
        wrong = _with_rolled_cut(wrong, name, name.replace("conv1", "conv2"), "in")
    assert provable(network, wrong, images).kept_whole.keys() == {
        "layer1.0.conv1",
        "layer1.1.conv1",
        "layer3.2.conv1",
    }


def test_a_cut_that_breaks_the_network_is_kept_whole_with_the_error() -> None:
    network, spec = make("small_cnn")
    images = images_for(spec, 2)
    sites = sites_of("small_cnn")
    # The next layer's table is missing: it would still wait for 32 channels.
    broken = replace(
        sites,
        sites=tuple(
            replace(site, cuts=tuple(cut for cut in site.cuts if cut.side == "out"))
            if site.name == "features.0"
            else site
            for site in sites.sites
        ),
    )
    safe = provable(network, broken, images)
    assert safe.kept_whole.keys() == {"features.0"}
    assert "the cut network fails" in safe.kept_whole["features.0"]


# ------------------------------------------------------------------------------------------------------ members' heads


def test_a_member_keeps_the_rows_of_its_classes() -> None:
    network, spec = make("small_cnn")
    images = images_for(spec, 3)
    sites = sites_of("small_cnn")
    plan = random_plan(sites, 0.4, 5)
    with torch.no_grad(), zeroed(network, {norm_behind(name): removed for name, removed in plan.items()}):
        base = network(images)
    for classes in [(4,), (7, 2, 5), tuple(range(10)), (9, 8, 7, 6, 5, 4, 3, 2, 1, 0)]:
        member = member_network(network, sites, plan, classes, 10)
        with torch.no_grad():
            logits = member(images)
        none = 1 if 1 < len(classes) < 10 else 0
        assert logits.shape == (3, none + len(classes))
        assert torch.allclose(logits[:, none:], base[:, list(classes)], atol=1e-5)
        if none:
            assert not logits[:, 0].any()
            assert not member.classifier.weight[0].any()
        assert member.classifier.out_features == none + len(classes)
        assert member.classifier.weight.requires_grad
