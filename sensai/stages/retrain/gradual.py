"""A cut that is made in steps: members lose the most dispensable channels first, and are trained before they lose more."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from sensai.config import RetrainConfig
from sensai.ensemble import Ensemble
from sensai.ensemble.building import cut_further
from sensai.pipeline.stage import Context
from sensai.policy.plans import nested_plans
from sensai.sites import Plan
from sensai.stages import prune
from sensai.stages.baseline import base_model, site_map
from sensai.stages.prune.planning import MemberPlan, removable
from sensai.training.checkpoints import Progress


@dataclass(frozen=True)
class Step:
    """One cut, and the training after it.

    Attributes:
        plans: what the members then go without.
        epochs: most epochs of each member.
        checkpoints: folder of this training's own.
    """

    plans: Sequence[MemberPlan]
    epochs: int
    checkpoints: Path


@dataclass(frozen=True)
class TrainingHistory:
    """The training of one member over all steps.

    Attributes:
        steps: its progress in each, at least one.
    """

    steps: Sequence[Progress]

    @property
    def history(self) -> list[dict[str, float]]:
        """Metrics of every epoch."""
        return [epoch for step in self.steps for epoch in step.history]

    @property
    def cuts(self) -> list[int]:
        """The epochs before which the member was cut further, counted from 0."""
        return list(accumulate(len(step.history) for step in self.steps[:-1]))

    @property
    def seconds(self) -> float:
        """Time trained."""
        return sum(step.seconds for step in self.steps)

    @property
    def stopped_by(self) -> str:
        """What ended the last step."""
        return self.steps[-1].stopped_by

    @property
    def failure(self) -> str:
        """Why it was last taken back to a checkpoint and tried again; empty where it was not."""
        return next((step.failure for step in reversed(self.steps) if step.failure), "")


# Trains an ensemble in place by a step, told how many epochs each member has had; gives the progress of each.
Train = Callable[[Ensemble, Step, Sequence[int]], list[Progress]]


def steps_of(config: RetrainConfig, context: Context) -> list[Step]:
    """The steps to the plans of prune: one, unless the cut is made in several and the members are trained at all."""
    final = prune.load(context.store, context.upstream["prune"])
    cuts = _nested(final, config, context) if config.epochs and config.cut_steps > 1 else [final]
    epochs = [config.cut_epochs] * (len(cuts) - 1) + [config.epochs]
    folders = [context.checkpoints / f"cut_{number}" for number in range(1, len(cuts) + 1)]
    return [Step(*each) for each in zip(cuts, epochs, folders, strict=True)]


def _nested(plans: Sequence[MemberPlan], config: RetrainConfig, context: Context) -> list[list[MemberPlan]]:
    """The plans of every step, ranked as prune ranked them."""
    candidates = removable(config, context)
    ranking = "global" if "ranking" in config.ignored() else config.ranking
    of_members = []
    for member in plans:
        keys = candidates.criterion(candidates.statistics, member.classes)
        nested = nested_plans(member.plan, keys, config.cut_steps, ranking=ranking)
        of_members.append([MemberPlan(member.classes, plan) for plan in nested])
    steps = [list(step) for step in zip(*of_members, strict=True)]
    # Where there are more steps than channels to remove, some remove none.
    removed = [0, *(sum(len(channels) for each in step for channels in each.plan.values()) for step in steps)]
    return [step for step, (before, now) in zip(steps, pairwise(removed), strict=True) if now > before] or steps[-1:]


def train_in_steps(
    ensemble: Ensemble, steps: Sequence[Step], train: Train, config: RetrainConfig, context: Context
) -> tuple[Ensemble, list[TrainingHistory]]:
    """Train the members after every cut; returns the ensemble after the last.

    Args:
        ensemble: as cut by the first step.
        steps: each one's plans contain those of the one before.
        train: the training after one cut.
        config: of the stage.
        context: of the stage.
    """
    model, _ = base_model(context, config)
    sites = site_map(context, config)
    histories = [TrainingHistory([progress]) for progress in train(ensemble, steps[0], [0] * len(ensemble.members))]
    for before, step in pairwise(steps):
        ensemble = cut_further(ensemble, model, sites, _plans(before), _plans(step))
        trained = train(ensemble, step, [len(history.history) for history in histories])
        histories = [
            TrainingHistory([*history.steps, progress]) for history, progress in zip(histories, trained, strict=True)
        ]
    return ensemble, histories


def _plans(step: Step) -> list[Plan]:
    return [member.plan for member in step.plans]
