"""Plans to smaller networks, and the proof that these compute what the full one computes with the channels masked."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from sensai.errors import InputError
from sensai.models.widths import channel_axis, layer_widths, set_layer_widths
from sensai.sites import Plan, Side, SiteMap

TOLERANCE = 1e-5


def check_plan(plan: Plan, sites: SiteMap) -> None:
    """Refuse a plan that names no site of the network, indices out of range or twice, or that empties a site which the
    logits cannot do without.

    Raises:
        ValueError: says which site and what is wrong with it.
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
    """A new network without the plan's channels; the given one stays as it is.

    Raises:
        ValueError: the plan does not fit the network (see `check_plan`).
    """
    check_plan(plan, sites)
    return _narrowed(model, sites.kept(plan, model))


def prune_further(member: nn.Module, model: nn.Module, sites: SiteMap, before: Plan, plan: Plan) -> nn.Module:
    """A new network without the plan's channels, made of one that goes without some of them already.

    Args:
        member: pruned by `before`, and trained perhaps; it stays as it is.
        model: the full network that it was cut out of.
        sites: the removable channels of the full network.
        before: what the member goes without.
        plan: contains `before`; like it in the numbering of the full network.

    Raises:
        ValueError: the plan does not fit the network (see `check_plan`), or gives back what is gone.
    """
    check_plan(plan, sites)
    for site, removed in before.items():
        if back := np.setdiff1d(removed, plan.get(site, ())).tolist():
            raise ValueError(f"plan: {site!r} would get back channel {back[0]}, which the member goes without")
    there = sites.kept(before, model)
    kept = sites.kept(plan, model)
    return _narrowed(member, {key: mask[there[key]] if key in there else mask for key, mask in kept.items()})


def _narrowed(model: nn.Module, masks: dict[tuple[str, Side], np.ndarray]) -> nn.Module:
    """A copy with what the masks (size of that side,) keep of each layer's sides."""
    sides: dict[str, dict[Side, np.ndarray]] = {}
    for (layer, side), mask in masks.items():
        sides.setdefault(layer, {})[side] = np.flatnonzero(mask)
    # Copied as what they become, the large tensors of the full network are not copied first.
    narrowed = {layer: _narrowed_tensors(model.get_submodule(layer), kept) for layer, kept in sides.items()}
    memo = {key: value for tensors in narrowed.values() for key, value in tensors.items()}
    pruned = copy.deepcopy(model, memo)
    for layer, kept in sides.items():
        _declare(pruned.get_submodule(layer), kept)
    return pruned


def _narrowed_tensors(module: nn.Module, kept: dict[Side, np.ndarray]) -> dict[int, Tensor]:
    """Some outputs and inputs of one layer's tensors, by the identity of the tensor that they replace."""
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


def _declare(module: nn.Module, kept: dict[Side, np.ndarray]) -> None:
    """Tell a layer how wide its tensors are now."""
    out, *rest = layer_widths(module) or ()
    new_out = len(kept.get("out", range(out)))
    match rest:
        case [into, 1]:
            sizes: tuple[int, ...] = (new_out, len(kept.get("in", range(into))), 1)
        case [into, groups]:
            # Groups go as a whole, so as many are left as outputs in proportion; one without outputs, where none is.
            left = max(groups * new_out // out, 1)
            sizes = (new_out, into // groups * left, left)
        case [into]:
            sizes = (new_out, len(kept.get("in", range(into))))
        case _:
            sizes = (new_out,)
    set_layer_widths(module, sizes)


@contextmanager
def masked(model: nn.Module, sites: SiteMap, plan: Plan) -> Iterator[nn.Module]:
    """The full network with the plan's channels set to zero behind every layer that makes them."""
    handles = []
    for (layer, side), mask in sites.kept(plan, model).items():
        if side == "out":
            module = model.get_submodule(layer)
            handles.append(module.register_forward_hook(_mask_output(torch.from_numpy(mask), channel_axis(module))))
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()


def _mask_output(mask: Tensor, axis: int) -> Callable[[nn.Module, object, Tensor], Tensor]:
    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        shape = [1] * output.ndim
        shape[axis] = -1
        return output * mask.to(output.device).view(shape)

    return hook


@torch.no_grad()
def features(model: nn.Module, head: str, images: Tensor) -> Tensor:
    """What the head reads, (N, features), for images (N, C, H, W); where it is called n times (n x N, features)."""
    captured: list[Tensor] = []
    handle = model.get_submodule(head).register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    try:
        model.eval()(images)
    finally:
        handle.remove()
    return torch.cat(captured)


def pruning_error(model: nn.Module, sites: SiteMap, plan: Plan, images: Tensor) -> tuple[float, float]:
    """Largest difference between the features of the pruned and of the masked network, and the tolerance for it.

    Args:
        model: the full network.
        sites: its removable channels.
        plan: what is removed.
        images: float32 (N, C, H, W) on the model's device.
    """
    pruned = features(prune(model, sites, plan), sites.head, images)
    with masked(model, sites, plan):
        expected = features(model, sites.head, images)
    tolerance = TOLERANCE * max(1.0, float(expected.abs().max()))
    kept = sites.kept(plan, model).get((sites.head, "in"))
    if kept is not None:
        axis = channel_axis(model.get_submodule(sites.head))
        # What is gone must have been zero: the masked head reads it too.
        pruned = torch.zeros_like(expected).index_copy(
            axis, torch.from_numpy(np.flatnonzero(kept)).to(pruned.device), pruned
        )
    return float((pruned - expected).abs().max()), tolerance


def provable(model: nn.Module, sites: SiteMap, images: Tensor, seed: int = 0) -> SiteMap:
    """The map with every site kept whole for which pruning and masking differ.

    A random half of every site's channels is removed, then the other half, so that each channel goes once and stays once; only
    if that shows a difference or an error are the sites halved until the guilty ones are found. Then all sites that may be
    emptied are, and of those that are guilty a channel always stays.

    Raises:
        InputError: the rows of the head cannot be cut to those of a member.
    """
    _check_rows(model, sites, images)
    generator = np.random.default_rng(seed)
    orders = {site.name: generator.permutation(site.channels).astype(np.int64) for site in sites.sites}
    for half in (0, 1):
        plan = {
            site.name: np.sort(np.array_split(orders[site.name], 2)[half][: site.channels - 1]) for site in sites.sites
        }
        sites = _without_unprovable(model, sites, plan, images, SiteMap.without)
    emptied = {name: np.sort(order) for name, order in orders.items() if name in sites.branches}
    return _without_unprovable(model, sites, emptied, images, SiteMap.without_emptying)


@torch.no_grad()
def _check_rows(model: nn.Module, sites: SiteMap, images: Tensor) -> None:
    """Refuse a network whose member of the last class does not answer with that class's logit."""
    logits = model.eval()(images)
    if not isinstance(logits, Tensor):
        raise InputError(f"arch: the network must return its logits as one tensor, not as a {type(logits).__name__}")
    rows = logits.shape[1]
    try:
        alone = member_network(model, sites, {}, (rows - 1,), rows)(images)
        if alone.shape != (len(images), 1):
            why = f"it then answers with shape {tuple(alone.shape)}"
        else:
            same = torch.allclose(alone, logits[:, -1:], rtol=TOLERANCE, atol=TOLERANCE)
            why = "" if same else "it then gives another logit"
    # The user's own network may raise anything when the number of classes is written into its code.
    except Exception as failure:
        why = next(iter(str(failure).splitlines()), type(failure).__name__)
    if why:
        raise InputError(f"arch: {sites.head!r} cannot be cut to the row of one class ({why[:200]})")


def _without_unprovable(
    model: nn.Module,
    sites: SiteMap,
    plan: Plan,
    images: Tensor,
    without: Callable[[SiteMap, dict[str, str]], SiteMap],
) -> SiteMap:
    if _difference(model, sites, plan, images) is None:
        return sites
    guilty = _unprovable(model, sites, plan, images)
    proven, rest = without(sites, guilty), {name: removed for name, removed in plan.items() if name not in guilty}
    if why := _difference(model, proven, rest, images):
        # Sites that are wrong only together cannot be told apart: none of them is safe.
        return without(proven, dict.fromkeys(rest, f"together with others, {why}"))
    return proven


def _unprovable(model: nn.Module, sites: SiteMap, plan: Plan, images: Tensor) -> dict[str, str]:
    """Site -> the difference that cutting it alone makes."""
    why = _difference(model, sites, plan, images)
    if why is None:
        return {}
    if len(plan) == 1:
        return dict.fromkeys(plan, why)
    names = list(plan)
    first, second = (
        {name: plan[name] for name in part} for part in (names[: len(names) // 2], names[len(names) // 2 :])
    )
    return _unprovable(model, sites, first, images) | _unprovable(model, sites, second, images)


def _difference(model: nn.Module, sites: SiteMap, plan: Plan, images: Tensor) -> str | None:
    """What is wrong with cutting a plan, None where cut and masked agree."""
    if not plan:
        return None
    try:
        error, tolerance = pruning_error(model, sites, plan, images)
    # The user's own network may raise anything when a width is written into its code.
    except Exception as failure:
        return f"the cut network fails: {next(iter(str(failure).splitlines()), type(failure).__name__)}"
    return None if error <= tolerance else f"cut and masked differ by {error:.2g}"


def head_rows(group_size: int, num_classes: int) -> int:
    """Outputs of a member: 1 for one class, K for all K, else 1 + g."""
    return group_size if group_size in (1, num_classes) else 1 + group_size


def member_network(
    model: nn.Module, sites: SiteMap, plan: Plan, classes: tuple[int, ...], num_classes: int
) -> nn.Module:
    """The pruned network of one member.

    The rows of the head that belong to its classes are kept; a group of more than one class, but not of all, gets a row at
    index 0 for "none of mine", of zero weight and bias.
    """
    network = prune(model, sites, plan)
    head = network.get_submodule(sites.head)
    _keep_rows(head, classes)
    if head_rows(len(classes), num_classes) > len(classes):
        _prepend_none(head)
    return network


def _keep_rows(head: nn.Module, classes: tuple[int, ...]) -> None:
    rows = torch.tensor(classes)
    for name, parameter in list(head.named_parameters(recurse=False)):
        setattr(head, name, nn.Parameter(parameter.detach()[rows.to(parameter.device)]))
    _declare(head, {"out": np.array(classes)})


def _prepend_none(head: nn.Module) -> None:
    for name, parameter in list(head.named_parameters(recurse=False)):
        none = parameter.detach().new_zeros(1, *parameter.shape[1:])
        setattr(head, name, nn.Parameter(torch.cat([none, parameter.detach()])))
    out, *rest = layer_widths(head) or ()
    set_layer_widths(head, (out + 1, *rest))
