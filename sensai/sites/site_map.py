"""The removable channels of a network: the layers that make them, and the tensors that are cut with them.

The structure is called a group in DepGraph (Fang et al. 2023). It is read off the exported graph (`tracing`) and kept as
index tables in the numbering of the full network, so a plan is replayed on any copy of it in one pass.

S sites, C channels of a site.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import nn
from torch.nn.modules.conv import _ConvNd

from sensai.errors import InputError
from sensai.models.widths import layer_widths
from sensai.sites.branches import find_branches
from sensai.sites.operations import OUT_OF_SCOPE
from sensai.sites.tracing import ChannelTrace, Side, trace_channels

Scope = Literal["inner", "all"]

# Site name -> sorted indices of the channels to remove, in the numbering of the full network.
Plan = dict[str, np.ndarray]


@dataclass(frozen=True)
class Cut:
    """The part of one layer that goes with the channels of a site.

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
    """A layer whose output channels can be removed, with everything that is removed along with them.

    Channels that can only go together, like those of one group of a grouped convolution, count as one.

    Attributes:
        name: module path of the first layer that makes the channels.
        channels: C.
        producers: the convolutions and linear layers that make them, in the order of the calls.
        cuts: all cuts, batch norms and readers included.
        stream: True if the outputs of several layers are added up in these channels.
    """

    name: str
    channels: int
    producers: tuple[str, ...]
    cuts: tuple[Cut, ...]
    stream: bool = False


@dataclass(frozen=True)
class SiteMap:
    """All sites of a network.

    Attributes:
        sites: in the order of the calls of their first layers.
        kept_whole: layer -> why its channels are never removed.
        head: module path of the layer that makes the logits.
        branches: site that may be emptied -> the sites that are useless then, itself among them.
    """

    sites: tuple[Site, ...]
    kept_whole: dict[str, str]
    head: str
    branches: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Return the number of removable channels over all sites."""
        return sum(site.channels for site in self.sites)

    def without(self, reasons: dict[str, str]) -> "SiteMap":
        """Return the same map with some sites kept whole, each for its reason."""
        kept = tuple(site for site in self.sites if site.name not in reasons)
        return replace(self, sites=kept, kept_whole={**self.kept_whole, **reasons}).without_emptying(reasons)

    def without_emptying(self, names: Collection[str]) -> "SiteMap":
        """Return the same map where some sites always keep a channel."""
        branches = {
            site: tuple(other for other in branch if other not in names)
            for site, branch in self.branches.items()
            if site not in names
        }
        return replace(self, branches=branches)

    def within(self, scope: Scope) -> "SiteMap":
        """Return the same map for a scope: `inner` keeps channels whole that several layers add up to (a residual stream)."""
        if scope == "all":
            return self
        return self.without(
            {
                site.name: f"scope=inner: its channels are added {_to_others(len(site.producers) - 1)}"
                for site in self.sites
                if site.stream
            }
        )

    def kept(self, plan: Plan, model: nn.Module) -> dict[tuple[str, Side], np.ndarray]:
        """Return a mask (size of that side,) of the kept positions for each layer and side that a plan touches."""
        masks: dict[tuple[str, Side], np.ndarray] = {}
        for site in self.sites:
            removed = plan.get(site.name)
            if removed is None or not len(removed):
                continue
            for cut in site.cuts:
                key = (cut.layer, cut.side)
                if key not in masks:
                    masks[key] = np.ones(_side_size(model.get_submodule(cut.layer), cut.side), bool)
                masks[key][cut.index[removed]] = False
        return masks


def _to_others(layers: int) -> str:
    """Return the words for the other layers to which channels are added; without any, a layer's channels meet each other."""
    return {0: "to each other", 1: "to those of 1 other layer"}.get(layers, f"to those of {layers} other layers")


def _side_size(module: nn.Module, side: Side) -> int:
    sizes = layer_widths(module)
    if sizes is None:
        raise TypeError(f"{type(module).__name__} has no widths")
    return sizes[1] if side == "in" else sizes[0]


def find_sites(model: nn.Module, example: torch.Tensor) -> SiteMap:
    """Return the removable channels of a network, the residual stream included.

    Args:
        model: any network that `torch.export` takes; it is not changed.
        example: float32 (N, C, H, W), N >= 1, on the model's device; only its shape matters.

    Raises:
        InputError: the network cannot be exported, or does not end in one linear layer or convolution that gives a row
            of the output per class.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        trace = _traced(model.eval(), example[:1])
    finally:
        for module, training in modes:
            module.training = training
    _check_head(trace)
    return _site_map(trace, model)


def _traced(model: nn.Module, example: torch.Tensor) -> ChannelTrace:
    try:
        return trace_channels(model, example)
    # torch.export refuses networks with many types of error; each means that this one cannot be followed.
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"arch: the network cannot be followed by torch.export ({reason[:200]})") from error


def _check_head(trace: ChannelTrace) -> None:
    first, size = trace.sides.get((trace.head, "out"), (0, 0))
    rows = np.arange(first, first + size)
    alone = not any(np.isin(edges, rows).any() for edges in trace.edges)
    if not size or not alone or not np.array_equal(trace.rows, rows):
        raise InputError(
            "arch: the network must end in one linear layer or convolution whose rows are its output "
            f"({trace.head or 'it has no such layer'})"
        )


def _site_map(trace: ChannelTrace, model: nn.Module) -> SiteMap:
    component = _components(trace)
    reasons: dict[int, str] = {}
    for position, reason in trace.fixed.items():
        reasons.setdefault(int(component[position]), reason)
    streams = {int(component[position]) for position in trace.added}
    sites: dict[str, Site] = {}
    kept_whole: dict[str, str] = {}
    for members, table in _by_touched_sides(trace, component):
        site = _site(members, table, model, streams)
        why = [reasons[each] for each in members if each in reasons]
        if site.name in sites or site.name in kept_whole:
            why.append("its channels are used in different ways")
        if why:
            kept_whole.update(dict.fromkeys([site.name, *site.producers], why[0]))
        else:
            sites[site.name] = site
    kept_whole.pop(trace.head, None)
    order = {layer: number for number, (layer, _) in enumerate(trace.sides)}
    # If some channels of a layer must stay, it is kept whole, and so is everything that its site ties to it.
    bound = {
        site.name: next((kept_whole[a] for a in site.producers if a in kept_whole), None) for site in sites.values()
    }
    kept_whole |= {name: bound_by for name, bound_by in bound.items() if bound_by is not None}
    free = sorted((sites[name] for name in bound if bound[name] is None), key=lambda site: order[site.name])
    listed = dict(sorted(kept_whole.items(), key=lambda entry: order[entry[0]]))
    branches = find_branches(trace.graph, {site.name: site.producers for site in free})
    return SiteMap(tuple(free), listed | _unfollowed(trace, model), trace.head, branches)


def _unfollowed(trace: ChannelTrace, model: nn.Module) -> dict[str, str]:
    """Return the layers that the pass did not follow, with the reason.

    They are unused, of another kind, or their weights are also read elsewhere.
    """
    followed = {layer for layer, _ in trace.sides}
    return {
        name: "its calls cannot be followed" if layer_widths(module) else f"{type(module).__name__} {OUT_OF_SCOPE}"
        for name, module in model.named_modules()
        if isinstance(module, _ConvNd | nn.Linear) and name not in followed
    }


def _components(trace: ChannelTrace) -> np.ndarray:
    """Return the number of the connected component of each position, int64 (positions,)."""
    edges = np.concatenate([*trace.edges, np.zeros((0, 2), np.int64)])
    matrix = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(trace.count, trace.count))
    return connected_components(matrix, directed=False)[1]


# (layer, side) -> positions on that side, (components, r).
_Table = dict[tuple[str, Side], np.ndarray]


def _by_touched_sides(trace: ChannelTrace, component: np.ndarray) -> Iterator[tuple[list[int], _Table]]:
    """Yield components that touch the same sides of the same layers equally often, with the positions that they touch."""
    touched: dict[int, dict[tuple[str, Side], list[int]]] = defaultdict(lambda: defaultdict(list))
    for side, (first, size) in trace.sides.items():
        for own, owner in enumerate(component[first : first + size].tolist()):
            touched[owner][side].append(own)
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for owner, sides in touched.items():
        groups[tuple((side, len(own)) for side, own in sides.items())].append(owner)
    for members in groups.values():
        sides = touched[members[0]]
        # A component without outputs belongs to no layer: it is the channels of the image.
        if not any(side == "out" for _, side in sides):
            continue
        yield members, {side: np.array([touched[owner][side] for owner in members]) for side in sides}


def _site(members: list[int], table: _Table, model: nn.Module, streams: set[int]) -> Site:
    makers = [layer for layer, side in table if side == "out"]
    producers = tuple(layer for layer in makers if isinstance(model.get_submodule(layer), nn.Conv2d | nn.Linear))
    cuts = tuple(Cut(layer, side, index) for (layer, side), index in table.items())
    name = next(iter(producers or makers))
    return Site(name, len(members), producers, cuts, not streams.isdisjoint(members))
