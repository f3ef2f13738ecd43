"""A cut that is made in steps: members lose the most dispensable channels first, and are trained before they lose more."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from sensai.config import RetrainConfig
from sensai.ensemble import Ensemble
from sensai.ensemble.building import cut_further
from sensai.pipeline.configured import cut_config
from sensai.pipeline.context import Context
from sensai.policy.member_plans import MemberPlan, judging_classes
from sensai.policy.plans import nested_plans
from sensai.sites import Plan
from sensai.stages import prune
from sensai.stages.prune.planning import removable
from sensai.training.checkpoints import TrainingHistory

# Trains an ensemble in place after one cut. Given are the most epochs of each member, the folder of checkpoints, and the epochs
# that each member has had before; returned is the history of each since the cut.
Train = Callable[[Ensemble, int, Path, Sequence[int]], list[TrainingHistory]]


def plans_of_steps(config: RetrainConfig, context: Context) -> list[Sequence[MemberPlan]]:
    """Return the plans after each cut, each contained in the next: one step, unless the cut is made in several."""
    final = prune.load(context.store, context.upstream["prune"])
    return [*_nested(final, config, context)] if config.epochs and config.cut_steps > 1 else [final]


def epochs_of_steps(count: int, config: RetrainConfig) -> list[int]:
    """Return the most epochs of each member after each of so many cuts."""
    return [config.cut_epochs] * (count - 1) + [config.epochs]


def _nested(plans: Sequence[MemberPlan], config: RetrainConfig, context: Context) -> list[list[MemberPlan]]:
    """Return the plans of every step, ranked as prune ranked them."""
    candidates, rule = removable(config, context), cut_config(config)
    of_members = []
    for member in plans:
        judged_by = judging_classes(rule, member.classes, len(context.data.class_names))
        keys = candidates.criterion(candidates.statistics, judged_by)
        nested = nested_plans(member.plan, keys, config.cut_steps, ranking=rule.ranking)
        of_members.append([MemberPlan(member.classes, plan) for plan in nested])
    steps = [list(step) for step in zip(*of_members, strict=True)]
    # With more steps than channels to remove, some steps remove nothing.
    removed = [0, *(sum(len(channels) for each in step for channels in each.plan.values()) for step in steps)]
    return [step for step, (before, now) in zip(steps, pairwise(removed), strict=True) if now > before] or steps[-1:]


def train_in_steps(
    ensemble: Ensemble, plans: Sequence[Sequence[MemberPlan]], train: Train, config: RetrainConfig, context: Context
) -> tuple[Ensemble, list[TrainingHistory]]:
    """Train the members after every cut; return the ensemble after the last, and each member's history.

    Args:
        ensemble: as cut by the first plans.
        plans: of every step (see `plans_of_steps`).
        train: the training after one cut.
        config: of the stage.
        context: of the stage.
    """
    base = context.base_model
    epochs = epochs_of_steps(len(plans), config)
    folders = [context.checkpoints / f"cut_{number}" for number in range(1, len(plans) + 1)]
    histories = train(ensemble, epochs[0], folders[0], [0] * len(ensemble.members))
    for step, (before, now) in enumerate(pairwise(plans), 1):
        ensemble = cut_further(ensemble, base.network, base.sites, _channels(before), _channels(now))
        later = train(ensemble, epochs[step], folders[step], [len(history.epochs) for history in histories])
        histories = [history.then(since) for history, since in zip(histories, later, strict=True)]
    return ensemble, histories


def _channels(plans: Sequence[MemberPlan]) -> list[Plan]:
    return [member.plan for member in plans]
