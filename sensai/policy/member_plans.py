"""The plan of every member by policy, criterion and target. K classes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from torch import nn

from sensai.activations import Statistics
from sensai.errors import UnreachableTargetError
from sensai.policy.criterion_inputs import Criterion, criterion_of, norms_of_filters
from sensai.policy.plans import BY_APOZ, Ranking, WidthRule, flops_plans, ratio_plan, threshold_plan
from sensai.policy.replica_plans import ReplicaPlans, replica_criteria
from sensai.pruning import head_rows
from sensai.sites import Plan, Scope, SiteMap, SizePrediction

# The classes of one member, as `sensai.grouping.partitions` has them.
Group = tuple[int, ...]


@dataclass(frozen=True)
class MemberPlan:
    """The channels that one member goes without."""

    classes: Group
    plan: Plan


@dataclass(frozen=True)
class CutConfig:
    """The channels that members lose.

    Attributes:
        policy: `ratio` removes a share of all channels, `threshold` removes channels by thresholds.
        ratio: of the policy `ratio`: the share.
        target_flops: most FLOPs of a member, as a share of the base model's; replaces both policies. None: no target.
        target_of: the target is met by each `member`, or by the largest of the `ensemble`, whose channels are ranked together.
        ranking: of the channels of all sites together (`global`), or of each `layer`.
        scope: that the sites are within, for messages.
        plan_classes: channels are judged on images of the member's `own` classes or of `all`.
        criterion: name of the criterion; empty: APoZ, of a policy that ranks nothing.
        replica_plans: how members of the same classes differ; None: each member is ranked by the criterion itself.
        apoz_threshold: of the policy `threshold`.
        mean_threshold: likewise.
        min_channels: see `WidthRule`.
        round_to: likewise.
        seed: of what is sampled.
    """

    policy: Literal["ratio", "threshold"]
    ratio: float
    target_flops: float | None
    target_of: Literal["member", "ensemble"]
    ranking: Ranking
    scope: Scope
    plan_classes: Literal["own", "all"]
    criterion: str
    replica_plans: ReplicaPlans | None
    apoz_threshold: float
    mean_threshold: float
    min_channels: int
    round_to: int
    seed: int


@dataclass(frozen=True)
class _Ranked:
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

    @classmethod
    def of(cls, network: nn.Module, sites: SiteMap, statistics: Statistics, config: CutConfig) -> "Removable":
        """Return the channels of some sites of a base model, ranked by the criterion of a configuration."""
        named = partial(criterion_of, seed=config.seed, measure_norms=partial(norms_of_filters, network, sites.sites))
        return cls(sites, statistics, named(config.criterion) if config.criterion else BY_APOZ, named)


def make_plans(
    config: CutConfig, candidates: Removable, groups: Sequence[Group], prediction: SizePrediction, num_classes: int
) -> list[MemberPlan]:
    """Return the plan of the member of each group, by the chosen policy.

    Raises:
        UnreachableTargetError: a FLOPs target that cannot be reached.
    """
    rankings = [
        _Ranked(classes, judging_classes(config, classes, num_classes), criterion)
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


def judging_classes(config: CutConfig, classes: Group, num_classes: int) -> Group:
    """Return the classes by whose images the channels of a member are judged."""
    return classes if config.plan_classes == "own" else tuple(range(num_classes))


def _criteria(config: CutConfig, candidates: Removable, members: int) -> Sequence[Criterion]:
    """Return the criterion that ranks the channels of each member."""
    if config.replica_plans is None:
        return [candidates.criterion] * members
    return replica_criteria(
        config.replica_plans, members, candidates.criterion, candidates.criterion_named, config.criterion, config.seed
    )


def _plans_to_target(
    share: float,
    config: CutConfig,
    candidates: Removable,
    rankings: Sequence[_Ranked],
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


def _plan(config: CutConfig, candidates: Removable, ranking: _Ranked) -> Plan:
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


def _rule(config: CutConfig, candidates: Removable) -> WidthRule:
    return WidthRule(config.min_channels, config.round_to, candidates.sites.branches)
