"""The statistics of one pass equal those of feature maps that are stored and counted class by class.

Hooks of the test itself record the maps: behind ReLU modules, or behind batch norms with the ReLU applied here.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from torch import Tensor, nn

from sensai.activations import (
    ZERO_THRESHOLD,
    ActivationReader,
    SiteStatistics,
    Statistics,
    TaylorReader,
    channel_sums,
    load_statistics,
    read_points,
    save_statistics,
    taylor,
)
from sensai.sites import SiteMap, find_sites
from tests.helpers.networks import (
    assert_same,
    blocks_per_stage,
    contract_id,
    images_for,
    make,
    norm_behind,
    randomise,
    sites_of,
    snapshot,
    three_layers,
)

NUM_CLASSES = 10
# Class 7 has no images.
LABELS = torch.tensor([0, 1, 2, 3, 4, 5, 6, 8, 9, 0, 0, 3, 3])


def _maps_of(network: nn.Module, modules: list[str], images: Tensor) -> list[Tensor]:
    """Return the outputs of some modules after a ReLU, which does not change the output of a ReLU."""
    maps: dict[str, Tensor] = {}
    handles = [
        network.get_submodule(name).register_forward_hook(
            # The map is copied at once, because an in-place ReLU would write into it.
            lambda _m, _i, output, name=name: maps.__setitem__(name, F.relu(output.clone()))
        )
        for name in modules
    ]
    with torch.no_grad():
        network(images)
    for handle in handles:
        handle.remove()
    return [maps[name] for name in modules]


def places(network: nn.Module, site: str) -> list[str]:
    """Return the modules behind which a site is read: its own batch norm, or every block of a residual stream."""
    if site == "conv1" and "layer1" in dict(network.named_children()):
        identity = isinstance(network.layer1[0].shortcut, nn.Identity)
        return ["bn1", *(_blocks(network, 1) if identity else [])]
    path, _, last = site.rpartition(".")
    if path.startswith("layer") and last == ("conv3" if hasattr(network.get_submodule(path), "conv3") else "conv2"):
        return _blocks(network, int(path[len("layer")]))
    return [norm_behind(site)]


def _blocks(network: nn.Module, stage: int) -> list[str]:
    return [f"layer{stage}.{block}" for block in range(blocks_per_stage(network))]


def counted_directly(
    network: nn.Module, sites: SiteMap, images: Tensor, labels: Tensor, threshold: float
) -> Statistics:
    statistics = {}
    for site in sites.sites:
        zeros = np.zeros((NUM_CLASSES, site.channels), np.int64)
        magnitude = np.zeros((NUM_CLASSES, site.channels))
        elements = np.zeros(NUM_CLASSES, np.int64)
        for activation in _maps_of(network, places(network, site.name), images):
            for label in range(NUM_CLASSES):
                own = activation[labels == label].numpy().astype(np.float64)
                zeros[label] += (own <= np.float32(threshold)).sum((0, 2, 3))
                magnitude[label] += own.sum((0, 2, 3))
                elements[label] += len(own) * own.shape[2] * own.shape[3]
        statistics[site.name] = SiteStatistics(zeros, magnitude, elements)
    return statistics


def assert_equal(first: Statistics, second: Statistics) -> None:
    assert list(first) == list(second)
    for site, values in first.items():
        np.testing.assert_array_equal(values.zeros, second[site].zeros, err_msg=site)
        np.testing.assert_array_equal(values.elements, second[site].elements, err_msg=site)
        np.testing.assert_allclose(values.magnitude, second[site].magnitude, rtol=1e-5, atol=1e-5, err_msg=site)


def read(
    network: nn.Module, sites: SiteMap, images: Tensor, labels: Tensor, batch: int, threshold: float
) -> Statistics:
    reader = ActivationReader(network, sites.sites, images[:2], NUM_CLASSES, threshold)
    for part, part_labels in zip(images.split(batch), labels.split(batch), strict=True):
        reader.read(part, part_labels)
    return reader.statistics()


@pytest.mark.parametrize("threshold", [ZERO_THRESHOLD, 0.3])
@pytest.mark.parametrize(
    ("arch", "arch_args"),
    [
        ("small_cnn", {}),
        ("vgg11_bn", {}),
        ("resnet20", {"shortcut": "projection"}),
        ("resnet20", {"shortcut": "parameter_free"}),
        ("resnet20", {"block": "bottleneck"}),
    ],
    ids=contract_id,
)
def test_one_pass_equals_counting_kept_maps(arch: str, arch_args: dict[str, Any], threshold: float) -> None:
    network, spec = make(arch, arch_args)
    images = images_for(spec, len(LABELS))
    sites = sites_of(arch, arch_args)
    # Batches of 4, 4, 4 and 1.
    statistics = read(network, sites, images, LABELS, 4, threshold)
    expected = counted_directly(network, sites, images, LABELS, threshold)
    assert_equal(statistics, expected)
    first = next(iter(statistics.values()))
    assert first.zeros.dtype == first.elements.dtype == np.int64
    assert first.magnitude.dtype == np.float64
    assert not any(values.elements[7] or values.zeros[7].any() for values in statistics.values())
    # The case is not trivial: neither all zero nor all active, and classes differ.
    apoz = np.concatenate([values.apoz(range(10)) for values in statistics.values()])
    assert 0.05 < apoz.mean() < 0.95
    assert not np.allclose(first.apoz([0]), first.apoz([3]))


def test_a_residual_stream_is_read_behind_every_addition() -> None:
    network, spec = make("resnet20")
    images = images_for(spec, 4)
    sites = sites_of("resnet20")
    values = read(network, sites, images, torch.zeros(4, dtype=torch.int64), 4, 0.0)
    # There are four places of 32x32 (the first ReLU and three blocks), three each of 16x16 and 8x8, and one inside a block.
    assert values["conv1"].elements[0] == 4 * 4 * 32 * 32
    assert values["layer2.0.conv2"].elements[0] == 4 * 3 * 16 * 16
    assert values["layer3.0.conv2"].elements[0] == 4 * 3 * 8 * 8
    assert values["layer2.0.conv1"].elements[0] == 4 * 16 * 16


def test_the_threshold_itself_counts_as_zero() -> None:
    activation = torch.tensor([[[[0.0, -0.25], [0.25, 0.2500001]], [[1.0, 0.0], [-3.0, 0.5]]]])
    sums = channel_sums(activation, 0.25)
    zeros, magnitude = sums
    assert zeros.tolist() == [[3, 1]]
    assert magnitude.tolist() == [[pytest.approx(0.75, abs=1e-6), 4.5]]
    assert sums.dtype == torch.float64


def test_features_without_pixels_are_their_own_pixel() -> None:
    zeros, magnitude = channel_sums(torch.tensor([[0.0, 2.0, -1.0]]), 0.1)
    assert (zeros.tolist(), magnitude.tolist()) == ([[1, 0, 0]], [[0.0, 2.0, 1.0]])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_map_that_is_worked_on_in_parts_gives_the_sums_of_the_whole(memory_format: torch.memory_format) -> None:
    # The batch is read in parts of one image or of a few, by the number of threads.
    activation = torch.randn(7, 5, 256, 256).to(memory_format=memory_format)
    assert activation[0].numel() > read_points._VALUES_AT_ONCE
    before = activation.clone()
    zeros, magnitude = channel_sums(activation, 0.3)
    exact = activation.double().abs()
    assert torch.equal(zeros.long(), (activation.abs() <= 0.3).sum((2, 3)))
    torch.testing.assert_close(magnitude, exact.sum((2, 3)), rtol=1e-5, atol=0)
    assert torch.equal(activation, before)


@pytest.mark.parametrize("arch", ["small_cnn", "resnet20"])
def test_the_pass_also_gives_the_logits_and_changes_nothing(arch: str) -> None:
    network, spec = make(arch)
    network.requires_grad_(False)
    images = images_for(spec, 5)
    sites = sites_of(arch)
    before = snapshot(network)
    reader = ActivationReader(network, sites.sites, images[:3], NUM_CLASSES)
    logits = reader.read(images, torch.tensor([0, 1, 2, 3, 4]))
    with torch.no_grad():
        assert torch.allclose(logits, network(images), atol=1e-6)
    assert_same(network, before)


def test_a_network_in_training_is_read_in_eval_mode() -> None:
    network, spec = make("small_cnn")
    images = images_for(spec, len(LABELS))
    sites = sites_of("small_cnn")
    expected = counted_directly(network, sites, images, LABELS, ZERO_THRESHOLD)
    assert_equal(read(network.train(), sites, images, LABELS, 4, ZERO_THRESHOLD), expected)


def test_batches_of_any_size_give_the_same_sums() -> None:
    network, spec = make("small_cnn")
    images = images_for(spec, len(LABELS))
    sites = sites_of("small_cnn")
    whole = read(network, sites, images, LABELS, len(LABELS), ZERO_THRESHOLD)
    for batch in (1, 5):
        for site, values in read(network, sites, images, LABELS, batch, ZERO_THRESHOLD).items():
            np.testing.assert_array_equal(values.elements, whole[site].elements)
            # Another batch size may use another kernel, whose last digit may cross the threshold.
            assert np.abs(values.zeros - whole[site].zeros).max() <= 1
            np.testing.assert_allclose(values.magnitude, whole[site].magnitude, rtol=1e-5, atol=1e-3)


def test_shards_merge_to_the_whole(tmp_path: Path) -> None:
    network, spec = make("resnet20")
    images = images_for(spec, len(LABELS))
    sites = sites_of("resnet20")
    whole = read(network, sites, images, LABELS, 4, ZERO_THRESHOLD)
    first = read(network, sites, images[:8], LABELS[:8], 4, ZERO_THRESHOLD)
    second = read(network, sites, images[8:], LABELS[8:], 4, ZERO_THRESHOLD)
    paths = [tmp_path / "first", tmp_path / "second"]
    for part, path in zip((first, second), paths, strict=True):
        save_statistics(part, path)
    assert_equal(load_statistics(*paths), whole)
    assert_equal(load_statistics(*reversed(paths)), whole)


def test_statistics_are_a_snapshot_of_what_was_read_so_far() -> None:
    network, spec = make("small_cnn")
    images = images_for(spec, 4)
    reader = ActivationReader(network, sites_of("small_cnn").sites, images, NUM_CLASSES)
    labels = torch.tensor([0, 0, 1, 1])
    reader.read(images, labels)
    first = reader.statistics()["features.0"]
    elements, zeros = first.elements.copy(), first.zeros.copy()
    reader.read(images, labels)
    np.testing.assert_array_equal(reader.statistics()["features.0"].elements, 2 * elements)
    np.testing.assert_array_equal(reader.statistics()["features.0"].zeros, 2 * zeros)
    np.testing.assert_array_equal(first.elements, elements)


# ------------------------------------------------------------------------------------------------- other activations


class _Activated(nn.Module):
    """Two convolutions with one kind of activation between them; the second one's channels have none."""

    def __init__(self, activation: nn.Module, norm: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.activation = activation
        self.second = nn.Conv2d(6, 5, 3, padding=1)
        self.second_norm = nn.BatchNorm2d(5) if norm else nn.Identity()
        self.linear = nn.Linear(5, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.norm(self.first(x)))
        return self.linear(self.second_norm(self.second(x)).mean((2, 3)))


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(
    "activation", [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.SiLU(), nn.Hardswish(), nn.SiLU(inplace=True)]
)
def test_every_activation_is_read_by_its_magnitude(activation: nn.Module, norm: bool) -> None:
    torch.manual_seed(0)
    network = _Activated(activation, norm).eval()
    if norm:
        for module in (network.norm, network.second_norm):
            nn.init.uniform_(module.bias, -1, 1)
            nn.init.uniform_(module.running_mean, -1, 1)
    images = torch.randn(len(LABELS), 1, 4, 4)
    sites = find_sites(network, images)
    statistics = read(network, sites, images, LABELS, 4, 0.1)
    with torch.no_grad():
        active = activation(network.norm(network.first(images)).clone())
        # Without an activation a site is read at its batch norm, else at the layer itself.
        plain = network.second_norm(network.second(active))
    for site, maps in (("first", active), ("second", plain)):
        own = maps[LABELS == 3].abs()
        np.testing.assert_array_equal(statistics[site].zeros[3], (own <= 0.1).sum((0, 2, 3)).numpy(), err_msg=site)
        np.testing.assert_allclose(statistics[site].magnitude[3], own.sum((0, 2, 3)).numpy(), rtol=1e-4, err_msg=site)


def test_a_layer_without_batch_norm_is_read_behind_its_relu() -> None:
    network = three_layers()
    images, labels = torch.randn(5, 1, 6, 6), torch.tensor([0, 1, 1, 0, 2])
    sites = find_sites(network, images)
    statistics = read(network, sites, images, labels, 2, ZERO_THRESHOLD)
    with torch.no_grad():
        first = F.relu(network.bn1(network.conv1(images)))
    np.testing.assert_array_equal(
        statistics["conv1"].zeros[1], (first[labels == 1] <= ZERO_THRESHOLD).sum((0, 2, 3)).numpy()
    )
    assert statistics["conv1"].elements.tolist()[:4] == [72, 72, 36, 0]


# ------------------------------------------------------------------------------------ channels that are not a layer's own

# A map, the axis of its channels, and for each channel of the site its positions there.
_Places = list[tuple[Tensor, int, list[list[int]]]]


def _counted(places: _Places, label: int, threshold: float) -> tuple[list[int], list[float], int]:
    """Return zeros and magnitudes of each channel of a site, and elements, for the images of one class."""
    zeros, magnitude, elements = 0, 0.0, 0
    for maps, axis, index in places:
        own = maps.detach().movedim(axis, 1)[label == LABELS].abs()
        parts = [own[:, positions] for positions in index]
        zeros = zeros + np.array([int((part <= threshold).sum()) for part in parts])
        magnitude = magnitude + np.array([float(part.double().sum()) for part in parts])
        elements += parts[0].numel()
    return zeros.tolist(), magnitude.tolist(), elements


def _each(channels: int, first: int = 0) -> list[list[int]]:
    return [[first + channel] for channel in range(channels)]


class _GroupedPair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.linear = nn.Linear(12, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu6(self.grouped(F.relu(self.first(x)))).mean((2, 3)))

    def expected(self, x: Tensor) -> dict[str, _Places]:
        first = F.relu(self.first(x))
        groups = np.arange(12).reshape(4, 3).tolist()
        return {"first": [(first, 1, np.arange(8).reshape(4, 2).tolist()), (F.relu6(self.grouped(first)), 1, groups)]}


class _Dense(nn.Module):
    """Batch norm and ReLU behind a concatenation: a channel is read there, not where it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 2, 3, padding=1)
        self.norm = randomise(nn.BatchNorm2d(5))
        self.linear = nn.Linear(5, NUM_CLASSES)

    def _both(self, x: Tensor) -> Tensor:
        first = self.first(x)
        return torch.cat([first, self.second(first)], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.norm(self._both(x))).mean((2, 3)))

    def expected(self, x: Tensor) -> dict[str, _Places]:
        maps = F.relu(self.norm(self._both(x)))
        return {"first": [(maps, 1, _each(3))], "second": [(maps, 1, _each(2, first=3))]}


class _Excited(nn.Module):
    """The gate's own layer has no activation that counts zeros; the channels that it scales have one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.down, self.up = nn.Linear(4, 2), nn.Linear(2, 4)
        self.linear = nn.Linear(4, NUM_CLASSES)

    def _down(self, x: Tensor) -> Tensor:
        return F.silu(self.down(F.hardswish(self.first(x)).mean((2, 3))))

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.sigmoid(self.up(self._down(x)))
        return self.linear((F.hardswish(self.first(x)) * scale[..., None, None]).mean((2, 3)))

    def expected(self, x: Tensor) -> dict[str, _Places]:
        return {"down": [(self._down(x), 1, _each(2))]}


class _TokenWise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 4, 2, stride=2)
        self.hidden, self.back = nn.Linear(4, 6), nn.Linear(6, 4)
        self.linear = nn.Linear(4, NUM_CLASSES)

    def _tokens(self, x: Tensor) -> Tensor:
        return self.patches(x).flatten(2).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self._tokens(x)
        return self.linear(self.back(F.gelu(self.hidden(tokens))).mean(1))

    def expected(self, x: Tensor) -> dict[str, _Places]:
        hidden = self.hidden(self._tokens(x))
        back = self.back(F.gelu(hidden))
        return {
            "patches": [(self.patches(x), 1, _each(4))],
            "hidden": [(F.gelu(hidden), 2, _each(6))],
            "back": [(back, 2, _each(4))],
        }


@pytest.mark.parametrize("reader_type", [ActivationReader, TaylorReader])
@pytest.mark.parametrize("make_network", [_GroupedPair, _Dense, _Excited, _TokenWise])
def test_channels_are_read_where_they_are_active(make_network: Any, reader_type: type[ActivationReader]) -> None:
    torch.manual_seed(0)
    network, images = make_network().eval(), torch.randn(len(LABELS), 1, 4, 4)
    sites = find_sites(network, images)
    reader = reader_type(network, sites.sites, images[:2], NUM_CLASSES, 0.1)
    for part, labels in zip(images.split(4), LABELS.split(4), strict=True):
        reader.read(part, labels)
    statistics = reader.statistics()
    for site, places_of_site in network.expected(images).items():
        zeros, magnitude, elements = _counted(places_of_site, 3, 0.1)
        assert statistics[site].zeros[3].tolist() == zeros, site
        np.testing.assert_allclose(statistics[site].magnitude[3], magnitude, rtol=1e-4, err_msg=site)
        assert statistics[site].elements[3] == elements, site
        assert 0 < sum(zeros) < elements * len(zeros)


@pytest.mark.parametrize("arch", ["mobilenetv2", "shufflenetv2"])
def test_the_inside_of_a_depthwise_block_is_read_behind_its_activations(arch: str) -> None:
    network, spec = make(arch)
    images = images_for(spec, len(LABELS))
    sites = sites_of(arch)
    statistics = read(network, sites, images, LABELS, 4, ZERO_THRESHOLD)
    # ShuffleNetV2 has no ReLU behind its depthwise convolution.
    block, modules = {"mobilenetv2": ("layers.3", ["bn1", "bn2"]), "shufflenetv2": ("layer2.1", ["bn1"])}[arch]
    maps = _maps_of(network, [f"{block}.{name}" for name in modules], images)
    channels = maps[0].shape[1]
    zeros, magnitude, elements = _counted([(each, 1, _each(channels)) for each in maps], 3, ZERO_THRESHOLD)
    own = statistics[f"{block}.conv1"]
    assert own.zeros[3].tolist() == zeros
    np.testing.assert_allclose(own.magnitude[3], magnitude, rtol=1e-4, atol=1e-4)
    assert own.elements[3] == elements


# -------------------------------------------------------------------------------------------------- with a backward pass


def sensitivities_directly(
    network: nn.Module, modules: list[str], images: Tensor, labels: Tensor, *, relu: bool
) -> np.ndarray:
    """Return float64 (K, C): for each image the stored gradients of its loss times the maps behind some modules."""
    total: np.ndarray | float = 0.0
    for image, label in zip(images, labels, strict=True):
        maps: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: object, output: Tensor, maps: list[Tensor] = maps) -> Tensor:
            # The recorded map is the one that the rest of the network reads.
            maps.append(F.relu(output.clone()) if relu else output.clone())
            return maps[-1]

        handles = [network.get_submodule(name).register_forward_hook(keep) for name in modules]
        loss = F.cross_entropy(network(image[None]), label[None])
        gradients = torch.autograd.grad(loss, maps)
        for handle in handles:
            handle.remove()
        row = sum((own.detach().double() * g).sum((0, 2, 3)).abs() for own, g in zip(maps, gradients, strict=True))
        by_class = np.zeros((NUM_CLASSES, len(row)))
        by_class[label] = row.numpy()
        total = total + by_class
    return np.asarray(total)


@pytest.mark.parametrize(
    ("arch", "arch_args"),
    [("small_cnn", {}), ("vgg11_bn", {}), ("resnet20", {}), ("resnet20", {"block": "bottleneck"})],
    ids=contract_id,
)
def test_sensitivities_equal_those_of_kept_gradients(arch: str, arch_args: dict[str, Any]) -> None:
    network, spec = make(arch, arch_args)
    images = images_for(spec, len(LABELS))
    sites = sites_of(arch, arch_args)
    # In float64 rounding never opens a ReLU in only one of the two ways.
    network, images = network.double(), images.double()
    reader = TaylorReader(network, sites.sites, images[:2], NUM_CLASSES)
    for part, labels in zip(images.split(4), LABELS.split(4), strict=True):
        reader.read(part, labels)
    statistics = reader.statistics()
    # A ReLU follows the batch norm of a site; applying it twice changes nothing.
    for site in [sites.sites[0], sites.sites[1], sites.sites[len(sites.sites) // 2], sites.sites[-1]]:
        expected = sensitivities_directly(network, places(network, site.name), images, LABELS, relu=True)
        own = statistics[site.name].sensitivity
        np.testing.assert_allclose(own, expected, rtol=1e-9, atol=1e-12, err_msg=site.name)
        assert own.dtype == np.float64
        assert expected.max() > 0
    assert_equal(statistics, read(network, sites, images, LABELS, 4, ZERO_THRESHOLD))


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.SiLU(inplace=True), nn.Hardswish()])
def test_sensitivities_behind_any_activation_and_behind_none(activation: nn.Module) -> None:
    torch.manual_seed(0)
    network = _Activated(activation, norm=True).double().eval()
    images = torch.randn(len(LABELS), 1, 4, 4, dtype=torch.float64)
    reader = TaylorReader(network, find_sites(network, images).sites, images, NUM_CLASSES)
    reader.read(images, LABELS)
    for site, module in (("first", "activation"), ("second", "second_norm")):
        expected = sensitivities_directly(network, [module], images, LABELS, relu=False)
        np.testing.assert_allclose(reader.statistics()[site].sensitivity, expected, rtol=1e-9, err_msg=site)


def test_a_backward_pass_in_parts_gives_the_same_and_leaves_the_network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    network, spec = make("resnet20")
    network, images = network.double(), images_for(spec, 7).double()
    sites = sites_of("resnet20")
    before = snapshot(network)

    def whole(bytes_at_once: int) -> tuple[Statistics, Tensor]:
        monkeypatch.setattr(taylor, "_BYTES_AT_ONCE", bytes_at_once)
        reader = TaylorReader(network, sites.sites, images[:2], NUM_CLASSES)
        with torch.no_grad():
            logits = reader.read(images, LABELS[:7])
        return reader.statistics(), logits

    (at_once, logits), (one_by_one, same) = whole(2**30), whole(1)
    for site, values in at_once.items():
        np.testing.assert_allclose(values.sensitivity, one_by_one[site].sensitivity, rtol=1e-9)
    torch.testing.assert_close(logits, same)
    assert not logits.requires_grad
    assert_same(network, before)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_statistics_without_a_backward_pass_say_so() -> None:
    values = some_statistics()["features.3"]
    with pytest.raises(ValueError, match="without a backward pass"):
        values.taylor([0])
    with_it = SiteStatistics(values.zeros, values.magnitude, values.elements, np.ones((3, 2)))
    assert (with_it + values).sensitivity is None
    np.testing.assert_array_equal((with_it + with_it).sensitivity, np.full((3, 2), 2.0))
    np.testing.assert_allclose(with_it.taylor([0, 2]), np.full(2, 2 / values.elements[[0, 2]].sum()))


# --------------------------------------------------------------------------------------------------------- the numbers


def some_statistics(seed: int = 0) -> Statistics:
    """Return statistics of three sites whose order is not alphabetical."""
    generator = np.random.default_rng(seed)
    return {
        site: SiteStatistics(
            generator.integers(0, 2**40, (3, channels)), generator.random((3, channels)), generator.integers(1, 9, 3)
        )
        for site, channels in (("features.3", 2), ("features.10", 4), ("conv/1", 1))
    }


@pytest.mark.parametrize("backward", [False, True])
def test_statistics_come_back_as_they_were_saved(tmp_path: Path, backward: bool) -> None:
    statistics = some_statistics()
    if backward:
        statistics = {
            site: replace(values, sensitivity=np.sqrt(values.magnitude)) for site, values in statistics.items()
        }
    save_statistics(statistics, tmp_path / "s.safetensors")
    loaded = load_statistics(tmp_path / "s.safetensors")
    assert loaded.keys() == statistics.keys()
    for site, values in statistics.items():
        assert (loaded[site].sensitivity is not None) == backward
        for field in ("zeros", "magnitude", "elements", *(["sensitivity"] if backward else [])):
            stored, own = getattr(loaded[site], field), getattr(values, field)
            assert stored.dtype == own.dtype
            np.testing.assert_array_equal(stored, own)
    assert "features.10/zeros" in load_file(tmp_path / "s.safetensors")
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.safetensors"]


def test_the_order_of_the_sites_survives_saving(tmp_path: Path) -> None:
    """A policy breaks ties between sites by their order, so a plan would otherwise depend on the source of statistics."""
    statistics = some_statistics()
    save_statistics(statistics, tmp_path / "s.safetensors")
    assert list(load_statistics(tmp_path / "s.safetensors")) == list(statistics)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), classes=st.sets(st.integers(0, 4), min_size=1))
def test_apoz_of_a_group_is_the_share_over_all_its_images(seed: int, classes: set[int]) -> None:
    generator = np.random.default_rng(seed)
    elements = generator.integers(0, 3, 5) * 16
    zeros = np.array([generator.integers(0, count + 1, 7) for count in elements])
    magnitude = generator.random((5, 7)) * elements[:, None]
    values = SiteStatistics(zeros, magnitude, elements)
    total = sum(int(elements[label]) for label in classes)
    for shares, sums in ((values.apoz(sorted(classes)), zeros), (values.mean(sorted(classes)), magnitude)):
        assert shares.shape == (7,)
        if total == 0:
            assert np.isnan(shares).all()
        else:
            expected = [sum(sums[label, channel] for label in classes) / total for channel in range(7)]
            np.testing.assert_allclose(shares, expected)
