"""The layout of training: no gradient depends on it, also where oneDNN's own would be wrong or end the process."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from sensai.models.resnet import ParameterFreeShortcut
from sensai.retraining.layout import lay_out


def gradients(network: nn.Module, images: Tensor) -> list[Tensor]:
    network.zero_grad()
    network(images).square().sum().backward()
    return [parameter.grad.double() for parameter in network.parameters() if parameter.grad is not None]


def residual(channels: int, stride: int) -> nn.Module:
    """Convolutions around a shortcut as ResNets have it."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 9, 1, stride=stride),
        nn.ReLU(),
        nn.Conv2d(9, 4, 3),
    )


@pytest.mark.parametrize("channels", [1, 3, 5, 6, 7, 8, 12, 15, 16, 20])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_are_those_of_double_precision(channels: int, stride: int) -> None:
    network = residual(channels, stride)
    images = torch.randn(16, 3, 16, 16)
    wanted = gradients(deepcopy(network).double(), images.double())
    trained = gradients(lay_out(network), images.contiguous(memory_format=torch.channels_last))
    for ours, exact in zip(trained, wanted, strict=True):
        assert torch.allclose(ours, exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))


@pytest.mark.parametrize("channels", [1, 3, 8, 15, 20])
def test_gradients_through_a_shortcut_without_parameters_are_those_of_double_precision(channels: int) -> None:
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(2 * channels, 4, 3)
    network = nn.Sequential(first, nn.ReLU(), ParameterFreeShortcut(channels, 2 * channels, 2), last)
    images = torch.randn(16, 3, 16, 16)
    wanted = gradients(deepcopy(network).double(), images.double())
    trained = gradients(lay_out(network), images.contiguous(memory_format=torch.channels_last))
    # Of one channel there is but one layout.
    assert channels == 1 or network[:3](images).is_contiguous(memory_format=torch.channels_last)
    for ours, exact in zip(trained, wanted, strict=True):
        assert torch.allclose(ours, exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))


def test_all_other_convolutions_have_their_channels_last() -> None:
    network = lay_out(residual(6, 2))
    last = [
        module.weight.is_contiguous(memory_format=torch.channels_last)
        for module in network
        if hasattr(module, "weight")
    ]
    assert last[0]
    assert last[2]
    assert network(torch.zeros(2, 3, 8, 8)).is_contiguous(memory_format=torch.channels_last)


def test_laid_out_twice_it_answers_the_same() -> None:
    network, images = residual(6, 2), torch.randn(2, 3, 8, 8)
    before = network(images)
    assert torch.allclose(lay_out(lay_out(network))(images), before, atol=1e-6)
