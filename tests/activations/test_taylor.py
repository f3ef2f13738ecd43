"""Sensitivities of one backward pass equal those of recorded gradients."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensai.activations import (
    ZERO_THRESHOLD,
    Statistics,
    TaylorReader,
    taylor,
)
from sensai.sites import find_sites
from tests.activations.kept_maps import LABELS, NUM_CLASSES, Activated, assert_equal, places, read
from tests.helpers.networks import (
    assert_same,
    contract_id,
    images_for,
    make,
    sites_of,
    snapshot,
)


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
    network = Activated(activation, norm=True).double().eval()
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
