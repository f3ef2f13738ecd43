"""Networks that fail at the second call, in training, or beside other images."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensai.errors import InputError
from sensai.models.behaviour import check_modes
from sensai.models.factory import NetworkSpec
from tests.helpers.networks import assert_same, snapshot

SPEC = NetworkSpec("nets.py:make", 3, 1, (8, 8))


class _Network(nn.Module):
    """A convolution and a linear layer around a body; it counts its calls."""

    def __init__(self, body: Callable[["_Network", Tensor], Any], **more: nn.Module) -> None:
        super().__init__()
        self.body, self.calls = body, 0
        self.conv, self.fc = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 3)
        for name, each in more.items():
            setattr(self, name, each)

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return self.body(self, x)

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x)).mean((2, 3))


def _plain(net: _Network, x: Tensor) -> Tensor:
    return net.fc(net.features(x))


def _dropout(net: _Network, x: Tensor) -> Tensor:
    return net.fc(F.dropout(net.features(x), 0.3))


def _noise(net: _Network, x: Tensor) -> Tensor:
    return net.fc(net.features(x) + 0.1 * torch.from_numpy(np.random.default_rng().random((1, 4), np.float32)))


def _counting(net: _Network, x: Tensor) -> Tensor:
    return _plain(net, x) + net.calls


def _only_once(net: _Network, x: Tensor) -> Tensor:
    if net.calls > 1:
        raise RuntimeError("called again")
    return _plain(net, x)


def _auxiliary(net: _Network, x: Tensor) -> Any:
    return (_plain(net, x), _plain(net, x)) if net.training else _plain(net, x)


def _fails_in_training(net: _Network, x: Tensor) -> Tensor:
    if net.training:
        raise RuntimeError("not here")
    return _plain(net, x)


def _fails_when_trained_again(net: _Network, x: Tensor) -> Tensor:
    net.trained = getattr(net, "trained", 0) + net.training
    if net.trained > 1:
        raise RuntimeError("once is enough")
    return _plain(net, x)


def _in_place(net: _Network, x: Tensor) -> Tensor:
    x = torch.sigmoid(net.conv(x))
    y = x.mean((2, 3))
    x.mul_(2)
    return net.fc(y + x.mean((2, 3)))


def _without_gradient(net: _Network, x: Tensor) -> Tensor:
    with torch.no_grad():
        return _plain(net, x)


def _squeezed(net: _Network, x: Tensor) -> Tensor:
    return net.fc(F.adaptive_avg_pool2d(F.relu(net.conv(x)), 1).squeeze())


def _centred_on_the_batch(net: _Network, x: Tensor) -> Tensor:
    x = net.features(x)
    return net.fc(x - x.mean(0))


def _normed(net: _Network, x: Tensor) -> Tensor:
    return net.fc(net.norm(net.conv(x)).relu().mean((2, 3)))


def _classes(net: _Network, x: Tensor) -> Tensor:
    return _plain(net, x).long()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (_Network(_dropout), "differ from call to call in evaluation mode"),
        (_Network(_noise), "differ from call to call in evaluation mode"),
        (_Network(_counting), "differ from call to call in evaluation mode"),
        (_Network(_only_once), r"fails in evaluation mode on a batch of 2 \(RuntimeError\('called again'\)\)"),
        (_Network(_auxiliary), r"gives tuple for a batch of 2 in training mode, not floats \(2, 3\)"),
        (_Network(_fails_in_training), r"fails in training mode on a batch of 2 \(RuntimeError\('not here'\)\)"),
        (_Network(_fails_when_trained_again), r"fails in training mode .*once is enough"),
        (_Network(_in_place), "fails in the backward pass .*inplace operation"),
        (_Network(_without_gradient), "carry no gradient in training mode"),
        (_Network(_squeezed), r"gives torch\.float32 \(3,\) for a batch of 1 in evaluation mode"),
        (_Network(_centred_on_the_batch), "depends on the others of the batch"),
        (_Network(_normed, norm=nn.BatchNorm2d(4, track_running_stats=False)), "depends on the others of the batch"),
        (_Network(_classes), r"gives torch\.int64 \(2, 3\) for a batch of 2 in evaluation mode"),
        (nn.Flatten(), "has no parameters: there is nothing to train"),
    ],
    ids=lambda value: value.body.__name__ if isinstance(value, _Network) else "",
)
def test_what_would_fail_later_is_refused(network: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=f"^arch='nets.py:make': .*{message}") as caught:
        check_modes(network, SPEC)
    assert "\n" not in str(caught.value)


def test_chance_behind_a_layer_that_starts_at_zero_is_seen() -> None:
    network = _Network(_dropout)
    nn.init.zeros_(network.fc.weight)
    with pytest.raises(InputError, match="differ from call to call"):
        check_modes(network, SPEC)


def test_a_network_that_cannot_be_copied_is_refused() -> None:
    network = _Network(_plain)
    network.last = _plain(network, torch.zeros(2, 1, 8, 8))
    with pytest.raises(InputError, match="cannot be copied, as members are out of it"):
        check_modes(network, SPEC)


@pytest.mark.parametrize(
    "network",
    [
        _Network(_plain),
        _Network(_plain).requires_grad_(False),
        _Network(_normed, norm=nn.Sequential(nn.BatchNorm2d(4), nn.Dropout2d(0.3))),
    ],
    ids=["plain", "frozen", "dropout in training"],
)
def test_what_is_right_passes_and_is_left_as_it_was(network: _Network) -> None:
    before, state = snapshot(network), torch.get_rng_state()
    check_modes(network, SPEC)
    assert_same(network, before)
    assert network.calls == 0
    assert torch.equal(torch.get_rng_state(), state)
