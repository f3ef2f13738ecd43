"""Give lazy layers their shapes, and remove wrappers that compute a weight anew at every call.

Members are made from plain weights. So a network is trained with its wrappers and stored without them: each wrapped weight
as its tensor in eval mode.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm


@torch.no_grad()
def materialise(network: nn.Module, input_shape: tuple[int, int, int]) -> str:
    """Give lazy layers their shapes, by a forward pass in eval mode of images (C, H, W). The mode is not changed.

    Returns:
        The first tensor that still has no shape, since the pass did not use it; empty if all have one.
    """
    if _without_shape(network):
        was_training = network.training
        network.eval()(torch.zeros(2, *input_shape))
        network.train(was_training)
    return _without_shape(network)


def _without_shape(network: nn.Module) -> str:
    tensors = (*network.named_parameters(), *network.named_buffers())
    lazy = (name for name, each in tensors if isinstance(each, UninitializedParameter | UninitializedBuffer))
    return next(lazy, "")


def unwrap(network: nn.Module, names: Collection[str] | None = None) -> nn.Module:
    """Replace wrapped weights by their values in eval mode, in place.

    These are the wrappers of `torch.nn.utils.parametrizations` and `parametrize`, of the older `weight_norm` and
    `spectral_norm`, and of `torch.nn.utils.prune`.

    Args:
        network: set to eval mode, in which spectral norms make no step of their iteration.
        names: of the tensors, for example `features.0.weight`; None: all.
    """
    network.eval()
    for path, module in list(network.named_modules()):
        for name in _wrapped(module):
            if names is None or f"{path}.{name}".lstrip(".") in names:
                # A user's own tensors may be named like those of a wrapper; torch then does not find the wrapper.
                with suppress(ValueError):
                    _unwrap_tensor(module, name)
    return network


def _wrapped(module: nn.Module) -> Iterator[str]:
    """Yield the tensors of one module that are computed anew at every call."""
    if parametrize.is_parametrized(module):
        yield from list(module.parametrizations)  # type: ignore[arg-type]
    own = {*dict(module.named_parameters(recurse=False)), *dict(module.named_buffers(recurse=False))}
    for name in sorted(own):
        stem, _, ending = name.rpartition("_")
        if ending in _PARTNERS and f"{stem}_{_PARTNERS[ending]}" in own:
            yield stem


# The tensor that an older wrapper keeps in place of the weight, and the one that it keeps beside it.
_PARTNERS = {"g": "v", "u": "orig", "mask": "orig"}


def _unwrap_tensor(module: nn.Module, name: str) -> None:
    if parametrize.is_parametrized(module, name):
        parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    elif hasattr(module, f"{name}_mask"):
        prune.remove(module, name)
    elif hasattr(module, f"{name}_u"):
        remove_spectral_norm(module, name)
    else:
        remove_weight_norm(module, name)
