"""Random statistics, networks and ensembles for benchmarks."""

import argparse
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import nn

from sensai.activations import SiteStatistics, Statistics
from sensai.data.batches import Normalization
from sensai.ensemble import Ensemble
from sensai.ensemble.building import build_ensemble
from sensai.ensemble.calibration import Calibration, class_contrasts
from sensai.grouping.partitions import Group
from sensai.models.factory import NetworkSpec, build
from sensai.models.layout import with_memory_format
from sensai.policy.criterion_inputs import criterion_of
from sensai.policy.plans import WidthRule, flops_plans
from sensai.sites import Plan, SiteMap, SizePrediction, find_sites


def random_statistics(sites: SiteMap, num_classes: int) -> Statistics:
    """Return random statistics of every site, as if from 100 activations for each class and channel."""
    generator = np.random.default_rng(0)
    return {
        site.name: SiteStatistics(
            generator.integers(0, 100, (num_classes, site.channels)),
            generator.random((num_classes, site.channels)),
            np.full(num_classes, 100),
        )
        for site in sites.sites
    }


def add_member_arguments(parser: argparse.ArgumentParser, share: float = 1 / 18, round_to: int = 16) -> None:
    """Add the arguments that `random_ensemble` takes from the command line."""
    parser.add_argument("--share", type=float, default=share, help="most FLOPs of a member / those of the base model")
    parser.add_argument("--round_to", type=int, default=round_to, help="kept widths are multiples of this")
    parser.add_argument(
        "--scope", choices=["inner", "all"], default="all", help="which channels may be removed (as in `prune`)"
    )


def random_ensemble(
    arch: str, share: float, round_to: int, scope: Literal["inner", "all"], members: int, dropped: float = 0
) -> tuple[nn.Module, Ensemble]:
    """Return a base model with random weights, and an ensemble of binary members by random plans, or its control.

    Args:
        arch: for 10 classes and 32x32 pixels, or of torchvision for 1000 classes and 224x224 pixels.
        share: the most FLOPs of a member, as a share of the base model's.
        round_to: kept widths are multiples of this.
        scope: the channels that may be removed.
        members: how many; 1 gives the control, one network of all classes.
        dropped: share of the blocks beside residual connections that are removed from each member.
    """
    classes, side = (1000, 224) if arch.startswith("torchvision:") else (10, 32)
    spec = NetworkSpec(arch, classes, 3, (side, side))
    torch.manual_seed(0)
    model = build(spec).eval()
    spec = with_memory_format(model, spec)
    for module in model.modules():
        # With fresh biases a branch without channels would give zeros, unlike in trained networks.
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.1)
    sites = find_sites(model, torch.zeros(2, *spec.input_shape)).within(scope)
    size = SizePrediction(model, sites, spec.input_shape)
    statistics = random_statistics(sites, classes)
    groups: list[Group] = [(label,) for label in range(members)] if members > 1 else [tuple(range(classes))]
    outputs = 1 if members > 1 else classes

    def plan_of(group: Group) -> Plan:
        """Return a random plan: the dropped blocks, and the same ratio in all other sites."""
        whole = _dropped(sites, group, dropped)
        gone = np.array([len(whole.get(name, ())) for name in size.sites])
        keys = {site: own for site, own in criterion_of("random")(statistics, group).items() if site not in whole}

        def flops(removed: np.ndarray) -> np.ndarray:
            counts = gone[None].copy()
            counts[:, gone == 0] = removed
            return size.at(counts, outputs)[1]

        rule = WidthRule(round_to=round_to)
        (rest,) = flops_plans([keys], flops=flops, target=share * size.flops, ranking="layer", rule=rule)
        return rest | whole

    plans = [plan_of(group) for group in groups]
    names = tuple(str(label) for label in range(classes))
    normalization = Normalization((0.5,) * 3, (0.25,) * 3)
    return model, build_ensemble(model, spec, sites, list(zip(groups, plans, strict=True)), names, normalization).eval()


def _dropped(sites: SiteMap, group: Group, share: float) -> Plan:
    """Return the plan that removes a random share of the branches."""
    branches = sorted(set(sites.branches.values()))
    chosen = np.random.default_rng([1, *group]).permutation(len(branches))[: round(share * len(branches))]
    names = {name for number in chosen for name in branches[number]}
    return {site.name: np.arange(site.channels) for site in sites.sites if site.name in names}


def combined(ensemble: Ensemble) -> Callable[[list[np.ndarray]], np.ndarray]:
    """Return a function from outputs to probabilities. Like every fitted calibration it is a linear map and a softmax."""
    weight = class_contrasts(ensemble.groups)
    calibration = Calibration("temperature", weight, np.zeros(len(weight)))
    return lambda outputs: calibration(outputs, ensemble.groups)
