"""group: Choose the classes that share a member.

Logs groups.json, what their members would cost (sizes.csv, predicted_flops_max, predicted_flops_total), and the coupling of
all classes (coupling_within, coupling_between, coupling.csv, its heatmap, and in groups.json the order in which that stands).
"""

from sensai.analysis.grouped import Grouped
from sensai.config import Group as GroupParameters
from sensai.config import GroupConfig
from sensai.pipeline.closing import Findings, sentence
from sensai.pipeline.context import Context, file_digest
from sensai.pipeline.stage import Stage
from sensai.stages import activations
from sensai.tracking import Store
from sensai.tracking.artifact_names import GROUPS


def _execute(config: GroupConfig, context: Context) -> None:
    from sensai.stages.group.group_execution import execute

    execute(config, context)


def load(store: Store, run_id: str) -> list[tuple[int, ...]]:
    """Return the groups of a run."""
    with store.downloaded(run_id, GROUPS) as file:
        return list(Grouped.from_json(file.read_bytes()).groups)


def title(config: GroupParameters) -> str:
    """Return the part of a run's name that tells one grouping from another."""
    shared = f" overlap={config.overlap}" if config.overlaps else ""
    if not config.counted:
        return config.method + shared
    by = f" {config.similarity}" if config.by_similarity else ""
    return f"{config.n_groups} {'group' if config.n_groups == 1 else 'groups'} {config.method}{by}{shared}"


def short_title(config: GroupParameters) -> str:
    """Return a grouping as the names of later runs have it; one group of all classes is the control."""
    if config.method == "random" and config.n_groups == 1:
        return "control"
    return title(config).replace("groups ", "", 1)


def found(store: Store, run_id: str) -> Findings:
    """Return what a run found."""
    fact = sentence(
        store.metrics_of(run_id),
        "{groups:count} groups",
        "predicted {predicted_flops_max:flops} of the largest member and {predicted_flops_total:flops} of all",
    )
    return Findings([fact], f"sensai prune --from_run {run_id}")


stage = Stage(
    version=4,
    config=GroupConfig,
    previous=activations.stage,
    execute=_execute,
    title=title,
    found=found,
    inputs=lambda config, _: {"groups": file_digest(config.groups_file, "groups_file") if config.by_file else ""},
)


run = stage.run
