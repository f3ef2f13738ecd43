"""Sites are read where their channels are active, behind any activation."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensai.activations import (
    ZERO_THRESHOLD,
    ActivationReader,
    TaylorReader,
)
from sensai.sites import find_sites
from tests.activations.kept_maps import LABELS, NUM_CLASSES, Activated, maps_of, read
from tests.helpers.networks import (
    images_for,
    make,
    randomise,
    sites_of,
    three_layers,
)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(
    "activation", [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.SiLU(), nn.Hardswish(), nn.SiLU(inplace=True)]
)
def test_every_activation_is_read_by_its_magnitude(activation: nn.Module, norm: bool) -> None:
    torch.manual_seed(0)
    network = Activated(activation, norm).eval()
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


def each_channel(channels: int, first: int = 0) -> list[list[int]]:
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
        return {"first": [(maps, 1, each_channel(3))], "second": [(maps, 1, each_channel(2, first=3))]}


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
        return {"down": [(self._down(x), 1, each_channel(2))]}


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
            "patches": [(self.patches(x), 1, each_channel(4))],
            "hidden": [(F.gelu(hidden), 2, each_channel(6))],
            "back": [(back, 2, each_channel(4))],
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
    maps = maps_of(network, [f"{block}.{name}" for name in modules], images)
    channels = maps[0].shape[1]
    zeros, magnitude, elements = _counted([(each, 1, each_channel(channels)) for each in maps], 3, ZERO_THRESHOLD)
    own = statistics[f"{block}.conv1"]
    assert own.zeros[3].tolist() == zeros
    np.testing.assert_allclose(own.magnitude[3], magnitude, rtol=1e-4, atol=1e-4)
    assert own.elements[3] == elements
