"""prune: Choose the channels that each member goes without.

Logs plans only (weights are rebuilt from base and plan), the sizes that follow, and val_accuracy, calibrated_val_accuracy and
val_in_group_accuracy of the members as they are cut, with the answers they come from.
"""

import json
from typing import TYPE_CHECKING

from sensai.config import Prune, PruneConfig
from sensai.pipeline.closing import Findings, kept_whole, sentence
from sensai.pipeline.context import Context
from sensai.pipeline.stage import Stage
from sensai.stages import group
from sensai.tracking import Store
from sensai.tracking.artifact_names import PLANS

if TYPE_CHECKING:
    from sensai.policy.member_plans import MemberPlan


def _execute(config: PruneConfig, context: Context) -> None:
    from sensai.stages.prune.prune_execution import execute

    execute(config, context)


def load(store: Store, run_id: str) -> "list[MemberPlan]":
    """Return the plans of a run."""
    from sensai.stages.prune.planning import plans_of

    with store.downloaded(run_id, PLANS) as file:
        return plans_of(json.loads(file.read_text()))


def title(config: Prune) -> str:
    """Return the part of a run's name that tells one pruning from another."""
    if config.policy == "threshold":
        return f"apoz>{config.apoz_threshold:g} mean<{config.mean_threshold:g}"
    by = "" if config.criterion == "apoz" else f" by {config.criterion}"
    if config.target_flops is not None:
        whole = " of the ensemble" if config.target_of == "ensemble" else ""
        return f"target_flops={config.target_flops:g}{whole}{by}"
    return f"ratio={config.ratio:g}{by}" + (" in each layer" if config.ranking == "layer" else "")


def run_title(config: Prune) -> str:
    """Return the part of a run's name that tells one ensemble before training from another, the shortest first."""
    by_class = config.method == "singletons" and not config.overlaps
    cut = title(config).removeprefix("ratio=").replace("target_flops=", "flops=")
    return cut if by_class else f"{group.short_title(config)} {cut}"


def found(store: Store, run_id: str) -> Findings:
    """Return what a run found."""
    fact = sentence(
        store.metrics_of(run_id),
        "{members:count} members with {channels_kept:share} of the channels",
        "the largest {flops_max:flops}, all {flops_total:flops}, the base model {flops_base:flops}",
        "validation accuracy as cut {calibrated_val_accuracy:accuracy}",
    )
    with store.downloaded(run_id, PLANS) as file:
        whole = kept_whole(json.loads(file.read_text())["kept_whole"])
    return Findings([fact, *whole], f"sensai retrain --from_run {run_id}")


stage = Stage(
    version=4, config=PruneConfig, previous=group.stage, execute=_execute, title=run_title, found=found, reads=("val",)
)


run = stage.run
