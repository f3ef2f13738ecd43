"""The numeric proof that a pruned network computes what the full one computes with the same channels masked."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sensai.errors import InputError
from sensai.models.widths import channel_axis
from sensai.pruning.cutting import prune
from sensai.pruning.masking import masked
from sensai.pruning.member_networks import member_network
from sensai.sites import Plan, SiteMap

TOLERANCE = 1e-5


@torch.no_grad()
def features(model: nn.Module, head: str, images: Tensor) -> Tensor:
    """Return the inputs of the head, (N, features), for images (N, C, H, W); if it is called n times, (n x N, features)."""
    captured: list[Tensor] = []
    handle = model.get_submodule(head).register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    try:
        model.eval()(images)
    finally:
        handle.remove()
    return torch.cat(captured)


def pruning_error(model: nn.Module, sites: SiteMap, plan: Plan, images: Tensor) -> tuple[float, float]:
    """Return the largest difference between the features of the pruned and of the masked network, and its tolerance.

    Args:
        model: the full network.
        sites: its removable channels.
        plan: the removed channels.
        images: float32 (N, C, H, W) on the model's device.
    """
    pruned = features(prune(model, sites, plan), sites.head, images)
    with masked(model, sites, plan):
        expected = features(model, sites.head, images)
    tolerance = TOLERANCE * max(1.0, float(expected.abs().max()))
    kept = sites.kept(plan, model).get((sites.head, "in"))
    if kept is not None:
        axis = channel_axis(model.get_submodule(sites.head))
        # The masked head also reads the removed inputs, so these must be zero there.
        pruned = torch.zeros_like(expected).index_copy(
            axis, torch.from_numpy(np.flatnonzero(kept)).to(pruned.device), pruned
        )
    return float((pruned - expected).abs().max()), tolerance


def proven(model: nn.Module, sites: SiteMap, plans: Sequence[tuple[tuple[int, ...], Plan]], images: Tensor) -> float:
    """Return the largest difference between the features of members and of the masked network.

    Args:
        model: the full network.
        sites: its removable channels.
        plans: classes and plan of each member.
        images: float32 (N, C, H, W) on the model's device.

    Raises:
        RuntimeError: it is more than rounding leaves.
    """
    errors = [pruning_error(model, sites, plan, images) for _, plan in plans]
    for (classes, _), (error, tolerance) in zip(plans, errors, strict=True):
        if error > tolerance:
            raise RuntimeError(f"member {classes}: pruned and masked differ by {error:.3g} > {tolerance:.3g}")
    return max(error for error, _ in errors)


def provable(model: nn.Module, sites: SiteMap, images: Tensor, seed: int = 0) -> SiteMap:
    """Return the map with every site kept whole for which pruning and masking differ.

    First a random half of every site's channels is removed, then the other half, so each channel is removed once and kept
    once. Only if that shows a difference or an error are the sites bisected until the ones that cause it are found. Then
    all sites that may be emptied are emptied; those that fail always keep a channel.

    Raises:
        InputError: the head cannot be reduced to the rows of a member.
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
    """Raise an error if the member of the last class does not return that class's logit."""
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
    # A user's network with the number of classes written into its code may raise any error.
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
    failed = _unprovable(model, sites, plan, images)
    proven, rest = without(sites, failed), {name: removed for name, removed in plan.items() if name not in failed}
    if why := _difference(model, proven, rest, images):
        # Sites that fail only together cannot be told apart, so none of them is safe.
        return without(proven, dict.fromkeys(rest, f"together with others, {why}"))
    return proven


def _unprovable(model: nn.Module, sites: SiteMap, plan: Plan, images: Tensor) -> dict[str, str]:
    """Return each site that fails -> the difference that pruning it alone makes."""
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
    """Return what is wrong with pruning by a plan; None if pruned and masked agree."""
    if not plan:
        return None
    try:
        error, tolerance = pruning_error(model, sites, plan, images)
    # A user's network with a width written into its code may raise any error.
    except Exception as failure:
        return f"the cut network fails: {next(iter(str(failure).splitlines()), type(failure).__name__)}"
    return None if error <= tolerance else f"cut and masked differ by {error:.2g}"
