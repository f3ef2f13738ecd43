"""Make members from a base model and plans, before any retraining."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from sensai.data.batches import Normalization, member_targets
from sensai.ensemble import Ensemble, Member
from sensai.grouping.partitions import Group
from sensai.models.factory import NetworkSpec
from sensai.pruning import member_network, prune_further
from sensai.sites import Plan, SiteMap

# Beyond this difference of logits, probabilities are equal in float32.
_BIAS_BOUND = 50.0


def build_ensemble(
    model: nn.Module,
    spec: NetworkSpec,
    sites: SiteMap,
    plans: Sequence[tuple[Group, Plan]],
    class_names: tuple[str, ...],
    normalization: Normalization,
) -> Ensemble:
    """Return an ensemble with one member per plan, pruned from the base model."""
    members = [
        Member(classes, member_network(model, sites, plan, classes, len(class_names))) for classes, plan in plans
    ]
    return Ensemble(members, class_names, spec, normalization)


def cut_further(
    ensemble: Ensemble, model: nn.Module, sites: SiteMap, before: Sequence[Plan], plans: Sequence[Plan]
) -> Ensemble:
    """Return an ensemble whose members lack more of the base model's channels; their heads keep their rows.

    Args:
        ensemble: pruned by `before`, perhaps trained; it is not changed.
        model: the base model.
        sites: its removable channels.
        before: the channels that each member lacks.
        plans: the channels that each will lack; they contain those of `before`.
    """
    members = [
        Member(member.classes, prune_further(member.network, model, sites, gone, plan))
        for member, gone, plan in zip(ensemble.members, before, plans, strict=True)
    ]
    return Ensemble(members, ensemble.class_names, ensemble.spec, ensemble.normalization)


def initialise_anew(ensemble: Ensemble, seed: int) -> None:
    """Give every member random weights in place, as its layers initialise themselves.

    Parameters that a network holds outside of torch's layers stay as they are.

    Args:
        ensemble: its members.
        seed: with a member's number, of its weights.
    """
    for number, member in enumerate(ensemble.members):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.default_rng([seed, number]).integers(2**63 - 1)))
            for layer in member.network.modules():
                if callable(reset := getattr(layer, "reset_parameters", None)):
                    reset()


@torch.no_grad()
def fit_none_biases(ensemble: Ensemble, head: str, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Set the bias of every group's "none" row to the minimum of the balanced cross entropy, in place.

    Args:
        ensemble: its groups' "none" rows have zero weight.
        head: module path of the members' last layer.
        batches: images float32 (N, C, H, W) and labels int64 (N,) of the validation split, or without one of
            the training split.
    """
    num_classes = len(ensemble.class_names)
    grouped = [member for member in ensemble.members if 1 < len(member.classes) < num_classes]
    if not grouped:
        return
    ensemble.eval()
    outputs: list[list[Tensor]] = [[] for _ in grouped]
    labels = []
    for images, batch_labels in batches:
        labels.append(batch_labels)
        for member, collected in zip(grouped, outputs, strict=True):
            collected.append(member.network(images))
    for member, collected in zip(grouped, outputs, strict=True):
        targets = member_targets(torch.cat(labels), member.classes, num_classes)
        bias = member.network.get_submodule(head).bias
        if isinstance(bias, Tensor):
            bias[0] = _best_none_bias(torch.cat(collected), targets)


def _best_none_bias(logits: Tensor, targets: Tensor) -> float:
    """Return the value of output 0 that minimises the class-balanced cross entropy (convex in it)."""
    counts = torch.bincount(targets, minlength=logits.shape[1]).clamp(min=1)
    weight = (1.0 / counts).to(logits)

    def loss(bias: float) -> float:
        shifted = logits.clone()
        shifted[:, 0] = bias
        return float(F.cross_entropy(shifted, targets, weight=weight))

    return float(minimize_scalar(loss, bounds=(-_BIAS_BOUND, _BIAS_BOUND), method="bounded").x)
