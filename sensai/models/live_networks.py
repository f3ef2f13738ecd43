"""A network that the user holds in memory, as sensAI takes it: a copy with plain weights, in eval mode."""

import copy
import hashlib

from torch import nn

from sensai.models.architecture_names import LIVE
from sensai.models.behaviour import check_modes
from sensai.models.factory import NetworkSpec, with_own_input
from sensai.models.layout import with_memory_format
from sensai.models.wrappers import unwrap


def adopted(model: nn.Module, num_classes: int, input_shape: tuple[int, int, int]) -> tuple[nn.Module, NetworkSpec]:
    """Return a copy of a network on the CPU, and its specification, from which copies of it are built.

    Args:
        model: on any device; it is not changed.
        num_classes: K, its outputs.
        input_shape: (C, H, W) of one image.

    Raises:
        InputError: it does not do what evaluation and training rely on (see `check_modes`).
    """
    channels, height, width = input_shape
    network = plain_copy(model)
    spec = NetworkSpec(f"{LIVE}{type(model).__name__}", num_classes, channels, (height, width), network=network)
    check_modes(network, spec)
    return network, with_memory_format(network, spec)


def plain_copy(model: nn.Module) -> nn.Module:
    """Return a copy on the CPU, in eval mode, without gradients and without wrappers that compute weights anew."""
    network = unwrap(copy.deepcopy(model).cpu())
    network.zero_grad(set_to_none=True)
    return with_own_input(network)


def weights_digest(model: nn.Module) -> str:
    """Return the SHA-256 of the names and values of all weights."""
    digest = hashlib.sha256()
    for name, values in model.state_dict().items():
        digest.update(name.encode())
        digest.update(values.detach().cpu().contiguous().flatten().numpy().tobytes())
    return digest.hexdigest()
