"""Memory formats: only networks that give the same with channels last get them, and then no gradient depends on them."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sensai.models.architectures import ARCHITECTURES
from sensai.models.factory import NetworkSpec
from sensai.models.layout import laid_out, takes_channels_last, to_channels_last, with_memory_format
from sensai.models.resnet import ParameterFreeShortcut
from tests.helpers.networks import assert_same, make, snapshot


def gradients(network: nn.Module, images: Tensor) -> list[Tensor]:
    network.zero_grad()
    network(images).square().sum().backward()
    return [parameter.grad.double() for parameter in network.parameters() if parameter.grad is not None]


def residual(channels: int, stride: int) -> nn.Module:
    """Return convolutions around a shortcut, as in ResNets."""
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
    trained = gradients(to_channels_last(network), images.contiguous(memory_format=torch.channels_last))
    for ours, exact in zip(trained, wanted, strict=True):
        assert torch.allclose(ours, exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))


@pytest.mark.parametrize("channels", [1, 3, 8, 15, 20])
def test_gradients_through_a_shortcut_without_parameters_are_those_of_double_precision(channels: int) -> None:
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(2 * channels, 4, 3)
    network = nn.Sequential(first, nn.ReLU(), ParameterFreeShortcut(channels, 2 * channels, 2), last)
    images = torch.randn(16, 3, 16, 16)
    wanted = gradients(deepcopy(network).double(), images.double())
    trained = gradients(to_channels_last(network), images.contiguous(memory_format=torch.channels_last))
    # One channel has only one layout.
    assert channels == 1 or network[:3](images).is_contiguous(memory_format=torch.channels_last)
    for ours, exact in zip(trained, wanted, strict=True):
        assert torch.allclose(ours, exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))


def test_all_other_convolutions_have_their_channels_last() -> None:
    network = to_channels_last(residual(6, 2))
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
    assert torch.allclose(to_channels_last(to_channels_last(network))(images), before, atol=1e-6)


# --------------------------------------------------------------------------------------------- which networks take it


class Net(nn.Module):
    """Two convolutions and a head; `forward` is given."""

    def __init__(self, forward: "Callable[[Net, Tensor], Tensor]") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 6, 3, padding=1)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(6 * 64, 4)
        self._forward = forward

    def maps(self, images: Tensor) -> Tensor:
        return self.second(self.norm(self.first(images)).relu()).relu()

    def forward(self, images: Tensor) -> Tensor:
        return self._forward(self, images)


def _flattened(network: Net, images: Tensor) -> Tensor:
    return network.head(network.maps(images).flatten(1))


def _viewed(network: Net, images: Tensor) -> Tensor:
    maps = network.maps(images)
    return network.head(maps.view(maps.size(0), -1))


def _viewed_in_training(network: Net, images: Tensor) -> Tensor:
    return _viewed(network, images) if network.training else _flattened(network, images)


def _viewed_in_evaluation(network: Net, images: Tensor) -> Tensor:
    return _flattened(network, images) if network.training else _viewed(network, images)


def _checking(network: Net, images: Tensor) -> Tensor:
    if not images.is_contiguous():
        raise ValueError("images must be contiguous")
    return _flattened(network, images)


def _reading_memory(network: Net, images: Tensor) -> Tensor:
    return network.head(network.maps(images).as_strided((len(images), 6 * 64), (6 * 64, 1)))


def _asking_for_strides(network: Net, images: Tensor) -> Tensor:
    return _flattened(network, images) * (1 if images.stride(1) > 1 else 2)


def _with_dropout_on_features(network: Net, images: Tensor) -> Tensor:
    return network.head(network.drop(network.maps(images).flatten(1)))


def _with_dropout_on_maps(network: Net, images: Tensor) -> Tensor:
    return network.head(network.drop(network.maps(images)).flatten(1))


class _OtherGradient(torch.autograd.Function):
    """Its outputs are right in every layout, but its gradients only in one."""

    @staticmethod
    def forward(context: Any, maps: Tensor) -> Tensor:
        context.factor = 1 if maps.is_contiguous() else 2
        return maps.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * context.factor


def _with_another_gradient(network: Net, images: Tensor) -> Tensor:
    return network.head(_OtherGradient.apply(network.maps(images)).flatten(1))


def _in_halves(network: Net, images: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return _flattened(network, images).float()


@pytest.mark.parametrize(
    ("forward", "takes"),
    [
        (_flattened, True),
        (_with_dropout_on_features, True),
        # Rounded to 8 bits the layouts differ by more than 1e-5, but compute the same.
        (_in_halves, True),
        (_viewed, False),
        (_viewed_in_training, False),
        (_viewed_in_evaluation, False),
        (_checking, False),
        (_reading_memory, False),
        (_asking_for_strides, False),
        (_with_another_gradient, False),
        # The noise is sampled in the order of memory.
        (_with_dropout_on_maps, False),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_channels_last_is_taken_where_the_answers_are_the_same(
    forward: Callable[[Net, Tensor], Tensor], takes: bool
) -> None:
    network = Net(forward).train()
    before, noise = snapshot(network), torch.random.get_rng_state()
    assert takes_channels_last(network, (3, 8, 8)) is takes
    assert_same(network, before)
    assert torch.equal(torch.random.get_rng_state(), noise)
    spec = with_memory_format(network, NetworkSpec("nets.py:make", 4, 3, (8, 8)))
    assert (spec.memory_format is torch.channels_last) is takes
    # The format is stored with the network; older stored networks without one are contiguous.
    stored = spec.to_json()
    assert NetworkSpec.from_json(stored) == spec
    del stored["channels_last"]
    assert NetworkSpec.from_json(stored).memory_format is torch.contiguous_format
    images = torch.rand(5, 3, 8, 8).to(memory_format=spec.memory_format)
    gradients(laid_out(network, spec.memory_format), images)


@pytest.mark.parametrize("arch", ["small_cnn", "resnet20"])
def test_builtin_networks_take_it(arch: str) -> None:
    network, spec = make(arch)
    assert takes_channels_last(network, spec.input_shape)
    assert with_memory_format(network, spec) == replace(spec, channels_last=True)


@pytest.mark.long
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_builtin_network_takes_it(arch: str) -> None:
    network, spec = make(arch)
    assert takes_channels_last(network, spec.input_shape)
