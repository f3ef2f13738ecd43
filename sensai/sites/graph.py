"""The removable channels of a network: which layers' channels can go, and which tensors go with them.

Torch-Pruning's dependency graph (Fang et al. 2023) says what is coupled; here its groups become index tables in the
numbering of the full network, so that a plan is replayed on any copy of it in one pass.

S sites, C channels of a site.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch_pruning as tp
from torch import nn

from sensai.models.widths import layer_widths

Scope = Literal["inner", "all"]
Side = Literal["out", "in"]

# Site name -> sorted indices of the channels to remove, in the numbering of the full network.
Plan = dict[str, np.ndarray]

_PRUNABLE = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class Cut:
    """What removing channels of a site takes from one layer.

    Attributes:
        layer: module path.
        side: `out`: the layer makes these channels (convolution, linear, batch norm); `in`: it reads them.
        index: int64 (C, r): for each channel of the site the r positions on that side of the layer.
    """

    layer: str
    side: Side
    index: np.ndarray


@dataclass(frozen=True)
class Site:
    """A layer whose output channels can be removed, with all that is removed along with them.

    Attributes:
        name: module path of the first layer that makes the channels.
        channels: C.
        adders: the convolutions and linear layers that make them; several where their outputs are added up.
        cuts: everything that goes.
    """

    name: str
    channels: int
    adders: tuple[str, ...]
    cuts: tuple[Cut, ...]

    @property
    def producers(self) -> tuple[str, ...]:
        """The layers that make these channels, batch norms included."""
        return tuple(cut.layer for cut in self.cuts if cut.side == "out")


@dataclass(frozen=True)
class SiteMap:
    """All sites of a network.

    Attributes:
        sites: in the order of the network's layers.
        kept_whole: layer -> why its channels are never removed.
        head: module path of the layer that makes the logits.
    """

    sites: tuple[Site, ...]
    kept_whole: dict[str, str]
    head: str

    @property
    def channels(self) -> int:
        """How many channels can be removed, over all sites."""
        return sum(site.channels for site in self.sites)

    def without(self, reasons: dict[str, str]) -> "SiteMap":
        """The same map with some sites kept whole, each for its reason."""
        kept = tuple(site for site in self.sites if site.name not in reasons)
        return SiteMap(kept, {**self.kept_whole, **reasons}, self.head)

    def within(self, scope: Scope) -> "SiteMap":
        """The same map for a scope: `inner` keeps channels whole that several layers add up to (a residual stream)."""
        if scope == "all":
            return self
        streams = {site.name: site.adders for site in self.sites if len(site.adders) > 1}
        return self.without(
            {
                name: f"scope=inner: its channels are added to those of {len(a) - 1} layers"
                for name, a in streams.items()
            }
        )

    def kept(self, plan: Plan, model: nn.Module) -> dict[tuple[str, Side], np.ndarray]:
        """Per layer and side that a plan touches, a mask (size of that side,) of what stays."""
        modules = dict(model.named_modules())
        masks: dict[tuple[str, Side], np.ndarray] = {}
        for site in self.sites:
            removed = plan.get(site.name)
            if removed is None or not len(removed):
                continue
            for cut in site.cuts:
                key = (cut.layer, cut.side)
                if key not in masks:
                    masks[key] = np.ones(_side_size(modules[cut.layer], cut.side), bool)
                masks[key][cut.index[removed]] = False
        return masks


def _side_size(module: nn.Module, side: Side) -> int:
    sizes = layer_widths(module)
    if sizes is None:
        raise TypeError(f"{type(module).__name__} has no widths")
    return sizes[1] if side == "in" else sizes[0]


def find_sites(model: nn.Module, example: torch.Tensor) -> SiteMap:
    """The removable channels of a network, the residual stream included.

    Args:
        model: any network that Torch-Pruning can trace; left as it was.
        example: float32 (N, C, H, W), N >= 1, on the model's device.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        return _found_sites(model.eval(), example)
    finally:
        for module, training in modes:
            module.training = training


def _found_sites(model: nn.Module, example: torch.Tensor) -> SiteMap:
    head = find_head(model, example)
    names = {module: name for name, module in model.named_modules()}
    order = {name: position for position, name in enumerate(names.values())}
    sites, kept_whole = [], {}
    for group in _groups(model, example, head):
        site, reason = _site(group, names, order)
        if reason is None:
            sites.append(site)
        else:
            kept_whole.update(dict.fromkeys(site.adders, reason))
    return SiteMap(tuple(sorted(sites, key=lambda site: order[site.name])), kept_whole, head)


def find_head(model: nn.Module, example: torch.Tensor) -> str:
    """Module path of the last linear layer or convolution that a forward pass calls: the one that makes the logits."""
    called: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in model.named_modules()
        if isinstance(module, _PRUNABLE)
    ]
    try:
        with torch.no_grad():
            model.eval()(example)
    finally:
        for handle in handles:
            handle.remove()
    return called[-1]


def _groups(model: nn.Module, example: torch.Tensor, head: str) -> Iterator[tp.dependency.Group]:
    model.eval()
    parameters = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        # The dependency graph is read off autograd.
        for parameter, _ in parameters:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            graph = tp.DependencyGraph().build_dependency(model, example_inputs=example)
        ignored = [model.get_submodule(head)]
        yield from graph.get_all_groups(ignored_layers=ignored, root_module_types=list(_PRUNABLE))
    finally:
        for parameter, required in parameters:
            parameter.requires_grad_(required)


def _site(group: tp.dependency.Group, names: dict[nn.Module, str], order: dict[str, int]) -> tuple[Site, str | None]:
    """The site of one dependency group, and why it must be kept whole, if it must."""
    tables: dict[tuple[str, Side], list[tuple[int, int]]] = {}
    reason = None
    for item in group:
        dependency = item.dep
        module = dependency.target.module
        if layer_widths(module) is None:
            if isinstance(module, nn.Parameter) or next(module.parameters(recurse=False), None) is not None:
                reason = f"{type(module).__name__} tensors are not cut"
            continue
        layer, side = names[module], _side(dependency)
        # The channel of the root that each index belongs to, and the index.
        tables.setdefault((layer, side), []).extend(
            (int(root), int(own)) for root, own in zip(item.root_idxs, item.idxs, strict=True)
        )
    modules = {name: module for module, name in names.items()}
    channels = max(root for root, _ in next(iter(tables.values()))) + 1
    cuts = []
    for (layer, side), entries in tables.items():
        pairs = sorted(set(entries))
        counts = np.bincount([root for root, _ in pairs], minlength=channels)
        if len(counts) != channels or counts.min() != counts.max():
            reason = reason or f"its channels do not map evenly onto {layer}"
            continue
        index = np.array([own for _, own in pairs]).reshape(channels, -1)
        if side == "out" and index.size != _side_size(modules[layer], side):
            reason = reason or f"it makes only some of the channels of {layer}"
        cuts.append(Cut(layer, side, index))
    making = sorted({layer for layer, side in tables if side == "out"}, key=lambda layer: order[layer])
    adders = tuple(layer for layer in making if isinstance(modules[layer], _PRUNABLE))
    return Site(adders[0], channels, adders, tuple(cuts)), reason


def _side(dependency: tp.dependency.Dependency) -> Side:
    return "in" if dependency.handler.__name__ == "prune_in_channels" else "out"
