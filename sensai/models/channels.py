"""Number of channels of the user's own network, for data that exist in grey and in colour. N images, C channels."""

from typing import Any

import torch
from torch import nn

from sensai.errors import InputError
from sensai.models.factory import NetworkSpec, build

# Large enough for the strides of most networks; other errors show when the network is built for its data.
_SIDE = 64
_CLASSES = 2
_COLOURS = 3


def takes_grey_alone(arch: str, arch_args: dict[str, Any]) -> bool:
    """Return True if a network takes images of one channel and not of three, judged by its first convolution."""
    with torch.random.fork_rng(devices=[]):
        try:
            network = build(NetworkSpec(arch, _CLASSES, 1, (_SIDE, _SIDE), arch_args))
        # The network is built again for its data; the error is reported then.
        except InputError:
            return False
        first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
        return first is not None and first.in_channels == 1 and not _takes_colour(network)


@torch.no_grad()
def _takes_colour(network: nn.Module) -> bool:
    try:
        network.eval()(torch.zeros(1, _COLOURS, _SIDE, _SIDE))
    # A user's network may raise any error.
    except Exception:
        return False
    return True
