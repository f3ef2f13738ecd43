"""Statistics from feature maps that hooks of the tests record and that are counted class by class."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensai.activations import (
    ActivationReader,
    SiteStatistics,
    Statistics,
)
from sensai.sites import SiteMap
from tests.helpers.networks import (
    blocks_per_stage,
    norm_behind,
)

NUM_CLASSES = 10
# Class 7 has no images.
LABELS = torch.tensor([0, 1, 2, 3, 4, 5, 6, 8, 9, 0, 0, 3, 3])


def maps_of(network: nn.Module, modules: list[str], images: Tensor) -> list[Tensor]:
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
        return ["bn1", *(blocks(network, 1) if identity else [])]
    path, _, last = site.rpartition(".")
    if path.startswith("layer") and last == ("conv3" if hasattr(network.get_submodule(path), "conv3") else "conv2"):
        return blocks(network, int(path[len("layer")]))
    return [norm_behind(site)]


def blocks(network: nn.Module, stage: int) -> list[str]:
    return [f"layer{stage}.{block}" for block in range(blocks_per_stage(network))]


def counted_directly(
    network: nn.Module, sites: SiteMap, images: Tensor, labels: Tensor, threshold: float
) -> Statistics:
    statistics = {}
    for site in sites.sites:
        zeros = np.zeros((NUM_CLASSES, site.channels), np.int64)
        magnitude = np.zeros((NUM_CLASSES, site.channels))
        elements = np.zeros(NUM_CLASSES, np.int64)
        for activation in maps_of(network, places(network, site.name), images):
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


class Activated(nn.Module):
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
