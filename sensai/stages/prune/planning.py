"""Make the plan of every member by the chosen policy, criterion and target."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from sensai.activations import Statistics
from sensai.config import Prune, PruneConfig, RetrainConfig
from sensai.errors import InputError, UnreachableTargetError
from sensai.grouping.partitions import Group
from sensai.pipeline.context import Context
from sensai.policy.criterion_inputs import Criterion, criterion_of, norms_of_filters
from sensai.policy.plans import BY_APOZ, WidthRule, flops_plans, ratio_plan, threshold_plan
from sensai.policy.replica_plans import replica_criteria
from sensai.pruning import head_rows
from sensai.sites import Plan, SiteMap, SizePrediction
from sensai.stages.group.group_execution import within_scope


@dataclass(frozen=True)
class MemberPlan:
    """The channels that one member goes without."""

    classes: Group
    plan: Plan


@dataclass(frozen=True)
class _Ranking:
    """The order in which a member loses channels.

    Attributes:
        classes: of the member.
        judged_by: classes by whose images the channels are judged.
        criterion: ranks the channels.
    """

    classes: Group
    judged_by: Group
    criterion: Criterion


@dataclass(frozen=True)
class Removable:
    """The channels that may be removed, and how dispensable each is.

    Attributes:
        sites: those within the scope.
        statistics: of these sites.
        criterion: ranks their channels.
        criterion_named: returns another criterion by its name.
    """

    sites: SiteMap
    statistics: Statistics
    criterion: Criterion
    criterion_named: Callable[[str], Criterion]


def removable(config: PruneConfig | RetrainConfig, context: Context) -> Removable:
    """Return the removable channels of the base model, with the criterion that the parameters name.

    Raises:
        InputError: nothing is within the scope; or `taylor` with a `from_run` whose statistics have no backward pass.
    """
    sites, statistics = within_scope(config.scope, context)
    norms = partial(norms_of_filters, context.base_model.network, sites.sites)
    named = partial(criterion_of, seed=config.seed, measure_norms=norms)
    return Removable(sites, statistics, _criterion(config, statistics, named), named)


def _criterion(config: Prune, statistics: Statistics, named: Callable[[str], Criterion]) -> Criterion:
    if "criterion" in config.ignored():
        return BY_APOZ
    backward = all(values.sensitivity is not None for values in statistics.values())
    if config.needs_backward and not backward:
        raise InputError(
            f"criterion={config.criterion!r}: the run of from_run stands on statistics without a backward pass; "
            f"it must be of a run of group that was made with criterion={config.criterion}"
        )
    return named(config.criterion)


def make_plans(
    config: PruneConfig, candidates: Removable, groups: Sequence[Group], prediction: SizePrediction, num_classes: int
) -> list[MemberPlan]:
    """Return the plan of the member of each group, by the chosen policy.

    Raises:
        UnreachableTargetError: a FLOPs target that cannot be reached.
    """
    rankings = [
        _Ranking(classes, judging_classes(config, classes, num_classes), criterion)
        for classes, criterion in zip(groups, _criteria(config, candidates, len(groups)), strict=True)
    ]
    if config.target_flops is None:
        return [MemberPlan(each.classes, _plan(config, candidates, each)) for each in rankings]
    teams = [rankings] if config.target_of == "ensemble" else [[each] for each in rankings]
    plans = [
        plan
        for team in teams
        for plan in _plans_to_target(config.target_flops, config, candidates, team, prediction, num_classes)
    ]
    return [MemberPlan(classes, plan) for classes, plan in zip(groups, plans, strict=True)]


def judging_classes(config: Prune, classes: Group, num_classes: int) -> Group:
    """Return the classes by whose images the channels of a member are judged."""
    return classes if config.plan_classes == "own" else tuple(range(num_classes))


def _criteria(config: PruneConfig, candidates: Removable, members: int) -> Sequence[Criterion]:
    """Return the criterion that ranks the channels of each member."""
    if "replica_plans" in config.ignored():
        return [candidates.criterion] * members
    return replica_criteria(
        config.replica_plans, members, candidates.criterion, candidates.criterion_named, config.criterion, config.seed
    )


def _plans_to_target(
    share: float,
    config: PruneConfig,
    candidates: Removable,
    rankings: Sequence[_Ranking],
    prediction: SizePrediction,
    num_classes: int,
) -> list[Plan]:
    """Return the plans of members that are ranked together, so that the largest has at most a share of the base's FLOPs."""
    rows = np.array([head_rows(len(each.classes), num_classes) for each in rankings])
    plans = flops_plans(
        [each.criterion(candidates.statistics, each.judged_by) for each in rankings],
        flops=lambda removed: prediction.at(removed, rows)[1],
        target=share * prediction.flops,
        ranking=config.ranking,
        rule=_rule(config, candidates),
    )
    flops = max(prediction(plan, outputs)[1] for plan, outputs in zip(plans, rows, strict=True))
    if flops > share * prediction.flops:
        raise UnreachableTargetError(
            f"target_flops={share:g}: with scope={config.scope}, min_channels={config.min_channels} and "
            f"round_to={config.round_to} no less than {flops / prediction.flops:.4f} can be reached"
        )
    return plans


def _plan(config: PruneConfig, candidates: Removable, ranking: _Ranking) -> Plan:
    if config.policy == "threshold":
        return threshold_plan(
            candidates.statistics,
            ranking.judged_by,
            apoz_threshold=config.apoz_threshold,
            mean_threshold=config.mean_threshold,
            rule=_rule(config, candidates),
        )
    return ratio_plan(
        candidates.statistics,
        ranking.judged_by,
        config.ratio,
        ranking=config.ranking,
        rule=_rule(config, candidates),
        criterion=ranking.criterion,
    )


def _rule(config: PruneConfig, candidates: Removable) -> WidthRule:
    return WidthRule(config.min_channels, config.round_to, candidates.sites.branches)


def plans_of(content: dict[str, Any]) -> list[MemberPlan]:
    """Return the plans in the JSON that `prune` logs.

    Raises:
        ValueError: a channel is not an integer.
    """
    return [
        MemberPlan(tuple(member["classes"]), {site: _indices(removed) for site, removed in member["removed"].items()})
        for member in content["members"]
    ]


def _indices(removed: list[int]) -> np.ndarray:
    indices = np.array(removed, np.int64)
    # NumPy cuts fractions off.
    if indices.tolist() != removed:
        raise ValueError("channels must be a list of integers")
    return indices
