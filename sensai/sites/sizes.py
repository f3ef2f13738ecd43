"""Sizes of networks, and of members before they are built."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sensai.models.resnet import ParameterFreeShortcut
from sensai.models.widths import layer_widths
from sensai.sites.site_map import Plan, SiteMap
from sensai.sites.tracing import Side


def count_params(model: nn.Module) -> int:
    """Return the number of trained values; buffers such as running means are not counted."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Return 2 x multiply-accumulates of one image of shape (C, H, W), counted by `torch.utils.flop_counter`.

    Parameter-free shortcuts count none: they are written as convolutions, but only move values.
    """
    return _count(model, input_shape)[0]


def _count(model: nn.Module, input_shape: tuple[int, int, int]) -> tuple[int, dict[str, int]]:
    """Return the FLOPs of a network, and those of each module in it by its path."""
    device = next(model.parameters()).device
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.eval()(torch.zeros(1, *input_shape, device=device))
    by_module = {name.partition(".")[2]: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    idle = [name for name, each in model.named_modules() if isinstance(each, ParameterFreeShortcut)]
    total = counter.get_total_flops() - sum(by_module.get(name, 0) for name in idle)
    return total, by_module | dict.fromkeys(idle, 0)


@dataclass(frozen=True)
class _Layer:
    """A layer whose size is (weights x inputs + others) x outputs; FLOPs grow with inputs x outputs.

    Attributes:
        outputs: of the full network; for a batch norm its features.
        inputs: likewise; 1 for a batch norm and for a grouped convolution: each of its outputs keeps all its inputs.
        weights: values for each pair of output and input.
        others: further values for each output.
        flops: for each pair of output and input.
    """

    outputs: int
    inputs: int
    weights: int
    others: int
    flops: int


class _Layers:
    """The layers that cuts touch. L layers, S sites.

    It knows the size that one removed channel of each site takes from either side of a layer.
    """

    def __init__(self, layers: dict[str, _Layer], sites: SiteMap) -> None:
        self.outputs = np.array([layer.outputs for layer in layers.values()])
        self.inputs = np.array([layer.inputs for layer in layers.values()])
        self.weights = np.array([layer.weights for layer in layers.values()])
        self.others = np.array([layer.others for layer in layers.values()])
        self.flops = np.array([layer.flops for layer in layers.values()])
        self.head = list(layers).index(sites.head)
        # int64 (S, L).
        self.taken: dict[Side, np.ndarray] = {
            "out": np.zeros((len(sites.sites), len(layers)), np.int64),
            "in": np.zeros((len(sites.sites), len(layers)), np.int64),
        }
        places = {name: place for place, name in enumerate(layers)}
        for row, site in enumerate(sites.sites):
            for cut in site.cuts:
                self.taken[cut.side][row, places[cut.layer]] += cut.index.shape[1]

    def sizes(self, outputs: np.ndarray, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return parameters and FLOPs of all layers together, int64 (...,), from their widths (..., L)."""
        params = (self.weights * inputs + self.others) * outputs
        return params.sum(axis=-1), (self.flops * inputs * outputs).sum(axis=-1)


class SizePrediction:
    """Predict parameters and FLOPs of any member of a network, by arithmetic on its plan.

    They equal `count_params` and `count_flops` of the built member exactly.
    """

    def __init__(self, model: nn.Module, sites: SiteMap, input_shape: tuple[int, int, int]) -> None:
        """Measure the full network once.

        Args:
            model: the full network.
            sites: its removable channels.
            input_shape: (C, H, W) of one image.
        """
        self.flops, flops = _count(model, input_shape)
        touched = {cut.layer for site in sites.sites for cut in site.cuts} | {sites.head}
        layers = {name: _layer(model.get_submodule(name), flops.get(name, 0)) for name in sorted(touched)}
        self._layers = _Layers(layers, sites)
        self._sites = sites
        self.params = count_params(model)
        touched_params, touched_flops = self._layers.sizes(self._layers.outputs, self._layers.inputs)
        self._untouched = self.params - touched_params, self.flops - touched_flops

    @property
    def channels(self) -> int:
        """Return the number of removable channels over all sites."""
        return self._sites.channels

    @property
    def sites(self) -> tuple[str, ...]:
        """Return the names of the sites, in their order."""
        return tuple(site.name for site in self._sites.sites)

    def __call__(self, plan: Plan, outputs: int) -> tuple[int, int]:
        """Return parameters and FLOPs of a member.

        Args:
            plan: the channels that it lacks.
            outputs: rows of its head: 1, 1 + g or K.
        """
        removed = np.array([len(plan.get(name, ())) for name in self.sites], np.int64)
        params, flops = self.at(removed, outputs)
        return int(params), int(flops)

    def at(self, removed: np.ndarray, outputs: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return parameters and FLOPs of members, int64 (...,), from the number of channels removed from each site.

        Args:
            removed: int64 (..., S), in the order of `sites`.
            outputs: rows of their heads, one number or (...,).
        """
        layers = self._layers
        left = layers.outputs - removed @ layers.taken["out"]
        left[..., layers.head] = outputs
        params, flops = layers.sizes(left, layers.inputs - removed @ layers.taken["in"])
        return self._untouched[0] + params, self._untouched[1] + flops


def _layer(module: nn.Module, flops: int) -> _Layer:
    sizes = layer_widths(module)
    if sizes is None:
        raise TypeError(f"{type(module).__name__} has no widths")
    outputs, *rest = sizes
    inputs = rest[0] if rest and rest[1:] in ([], [1]) else 1
    tensors = list(module.parameters(recurse=False))
    pairs = sum(each.numel() for each in tensors if each.ndim > 1) // (outputs * inputs)
    others = sum(each.numel() for each in tensors if each.ndim == 1) // outputs
    return _Layer(outputs, inputs, pairs, others, flops // (outputs * inputs))
