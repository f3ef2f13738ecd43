"""How large a network is, and how large a member will be before anything is built."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sensai.models.widths import layer_widths
from sensai.sites.graph import Plan, SiteMap
from sensai.sites.tracing import Side


def count_params(model: nn.Module) -> int:
    """Number of trained values (buffers such as running means are not counted)."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """2 x multiply-accumulates of one image of shape (C, H, W), counted by `torch.utils.flop_counter`."""
    return _count(model, input_shape).get_total_flops()


def _count(model: nn.Module, input_shape: tuple[int, int, int]) -> FlopCounterMode:
    device = next(model.parameters()).device
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.eval()(torch.zeros(1, *input_shape, device=device))
    return counter


@dataclass(frozen=True)
class _Layer:
    """A layer whose size is (weights x inputs + others) x outputs; FLOPs grow with inputs x outputs.

    Attributes:
        outputs: of the full network; for a batch norm its features.
        inputs: likewise; 1 for a batch norm, and for a grouped convolution, each of whose outputs reads what it always read.
        weights: values for each pair of output and input.
        others: further values for each output.
        flops: for each pair of output and input.
    """

    outputs: int
    inputs: int
    weights: int
    others: int
    flops: int

    def params_at(self, outputs: int, inputs: int) -> int:
        return (self.weights * inputs + self.others) * outputs

    def flops_at(self, outputs: int, inputs: int) -> int:
        return self.flops * inputs * outputs


class SizePrediction:
    """Parameters and FLOPs of any member of a network, by arithmetic on its plan.

    They are exactly what `count_params` and `count_flops` find once the member is built.
    """

    def __init__(self, model: nn.Module, sites: SiteMap, input_shape: tuple[int, int, int]) -> None:
        """Measure the full network once.

        Args:
            model: the full network.
            sites: its removable channels.
            input_shape: (C, H, W) of one image.
        """
        counter = _count(model, input_shape)
        flops = {name.partition(".")[2]: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
        touched = {cut.layer for site in sites.sites for cut in site.cuts} | {sites.head}
        self._layers = {name: _layer(model.get_submodule(name), flops.get(name, 0)) for name in touched}
        self._sites = sites
        self.params = count_params(model)
        self.flops = counter.get_total_flops()

    @property
    def channels(self) -> int:
        """How many channels can be removed, over all sites."""
        return self._sites.channels

    def __call__(self, plan: Plan, outputs: int) -> tuple[int, int]:
        """Parameters and FLOPs of a member.

        Args:
            plan: what it goes without.
            outputs: rows of its head: 1, 1 + g or K.
        """
        removed: dict[tuple[str, Side], int] = {}
        for site in self._sites.sites:
            for cut in site.cuts:
                gone = len(plan.get(site.name, ())) * cut.index.shape[1]
                removed[cut.layer, cut.side] = removed.get((cut.layer, cut.side), 0) + gone
        params, flops = self.params, self.flops
        for name, layer in self._layers.items():
            left = outputs if name == self._sites.head else layer.outputs - removed.get((name, "out"), 0)
            read = layer.inputs - removed.get((name, "in"), 0)
            params += layer.params_at(left, read) - layer.params_at(layer.outputs, layer.inputs)
            flops += layer.flops_at(left, read) - layer.flops_at(layer.outputs, layer.inputs)
        return params, flops


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
