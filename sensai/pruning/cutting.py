"""Make the smaller network of a plan; the full network is not changed."""

import copy

import numpy as np
import torch
from torch import Tensor, nn

from sensai.models.widths import layer_widths, set_layer_widths
from sensai.sites import Plan, Side, SiteMap


def check_plan(plan: Plan, sites: SiteMap) -> None:
    """Raise an error for a plan that does not fit the network.

    It may name no site, list indices out of range or twice, or empty a site that the logits depend on.

    Raises:
        ValueError: the message names the site and what is wrong with it.
    """
    channels = {site.name: site.channels for site in sites.sites}
    for site, removed in plan.items():
        if site not in channels:
            raise ValueError(f"plan: {site!r} is no removable site" + _why_kept(sites, site))
        if len(removed) and (min(removed) < 0 or max(removed) >= channels[site]):
            wrong = next(index for index in removed if not 0 <= index < channels[site])
            raise ValueError(f"plan: {site!r} has channels 0 to {channels[site] - 1}, not {wrong}")
        if len(set(map(int, removed))) != len(removed):
            raise ValueError(f"plan: {site!r} lists a channel twice")
        if len(removed) == channels[site] and site not in sites.branches:
            raise ValueError(f"plan: {site!r} would keep 0 of {channels[site]} channels")


def _why_kept(sites: SiteMap, site: str) -> str:
    return f" ({sites.kept_whole[site]})" if site in sites.kept_whole else ""


def prune(model: nn.Module, sites: SiteMap, plan: Plan) -> nn.Module:
    """Return a new network without the plan's channels; the given one is not changed.

    Raises:
        ValueError: the plan does not fit the network (see `check_plan`).
    """
    check_plan(plan, sites)
    return _narrowed(model, sites.kept(plan, model))


def prune_further(member: nn.Module, model: nn.Module, sites: SiteMap, before: Plan, plan: Plan) -> nn.Module:
    """Return a new network without the plan's channels, made of one that already lacks some of them.

    Args:
        member: pruned by `before`, perhaps trained; it is not changed.
        model: the full network that the member was made of.
        sites: the removable channels of the full network.
        before: the channels that the member lacks.
        plan: contains `before`; both are in the numbering of the full network.

    Raises:
        ValueError: the plan does not fit the network (see `check_plan`), or lacks a channel of `before`.
    """
    check_plan(plan, sites)
    for site, removed in before.items():
        if back := np.setdiff1d(removed, plan.get(site, ())).tolist():
            raise ValueError(f"plan: {site!r} would get back channel {back[0]}, which the member lacks")
    kept_before = sites.kept(before, model)
    kept = sites.kept(plan, model)
    return _narrowed(
        member, {key: mask[kept_before[key]] if key in kept_before else mask for key, mask in kept.items()}
    )


def _narrowed(model: nn.Module, masks: dict[tuple[str, Side], np.ndarray]) -> nn.Module:
    """Return a copy with only the positions that the masks (size of that side,) keep on each layer's sides."""
    sides: dict[str, dict[Side, np.ndarray]] = {}
    for (layer, side), mask in masks.items():
        sides.setdefault(layer, {})[side] = np.flatnonzero(mask)
    # The memo replaces tensors by their narrowed copies, so deepcopy never copies the large ones.
    narrowed = {layer: _narrowed_tensors(model.get_submodule(layer), kept) for layer, kept in sides.items()}
    memo = {key: value for tensors in narrowed.values() for key, value in tensors.items()}
    pruned = copy.deepcopy(model, memo)
    for layer, kept in sides.items():
        set_widths(pruned.get_submodule(layer), kept)
    return pruned


def _narrowed_tensors(module: nn.Module, kept: dict[Side, np.ndarray]) -> dict[int, Tensor]:
    """Return a layer's tensors with only the kept outputs and inputs, by the identity of the tensor that each replaces."""
    out, into = (torch.from_numpy(kept[side]) if side in kept else None for side in ("out", "in"))
    tensors: dict[int, Tensor] = {}
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        values = tensor.detach()
        if out is not None and values.ndim:
            values = values.index_select(0, out.to(values.device))
        if into is not None and values.ndim > 1:
            values = values.index_select(1, into.to(values.device))
        if values.shape != tensor.shape:
            trained = isinstance(tensor, nn.Parameter)
            tensors[id(tensor)] = nn.Parameter(values, requires_grad=tensor.requires_grad) if trained else values
    return tensors


def set_widths(module: nn.Module, kept: dict[Side, np.ndarray]) -> None:
    """Set the declared widths of a layer to those of its tensors."""
    out, *rest = layer_widths(module) or ()
    new_out = len(kept.get("out", range(out)))
    match rest:
        case [into, 1]:
            sizes: tuple[int, ...] = (new_out, len(kept.get("in", range(into))), 1)
        case [into, groups]:
            # Groups are removed as a whole, in proportion to the outputs. One group without outputs stays if all are.
            left = max(groups * new_out // out, 1)
            sizes = (new_out, into // groups * left, left)
        case [into]:
            sizes = (new_out, len(kept.get("in", range(into))))
        case _:
            sizes = (new_out,)
    set_layer_widths(module, sizes)
