"""group: which classes share a member. Logs coupling_within, coupling_between, groups.json and the coupling heatmap."""

import json
from pathlib import Path

import pandas as pd

from analysis import plots
from sensai.grouping import Group, coupling_means, random_groups, read_groups, singletons
from sensai.policy import coupling, ratio_plan
from sensai.stages import activations
from sensai.stages.configs import GroupConfig
from sensai.stages.inputs import dataset_of, file_digest
from sensai.stages.stage import Context, Stage
from sensai.tracking import Store

_GROUPS = "groups.json"
# Ratio of the plans that the coupling compares.
COUPLING_RATIO = 0.5


def _execute(config: GroupConfig, context: Context) -> None:
    class_names = dataset_of(config).class_names
    groups = form_groups(config, class_names)
    statistics = activations.load(context.store, context.upstream["activations"])
    plans = {label: ratio_plan(statistics, [label], ratio=COUPLING_RATIO) for label in range(len(class_names))}
    matrix = coupling(plans)
    context.run.log_metrics({"groups": len(groups), **coupling_means(matrix, groups)})
    content = {"groups": [list(group) for group in groups], "class_names": list(class_names)}
    context.run.log_json(content, _GROUPS)
    context.run.log_frame(pd.DataFrame(matrix, columns=list(class_names)), "coupling.csv")
    title = f"Channels that both classes' plans remove at ratio {COUPLING_RATIO:g}"
    context.run.log_figure(plots.heatmap(matrix, class_names, title), "coupling.png")


def form_groups(config: GroupConfig, class_names: tuple[str, ...]) -> list[Group]:
    """The groups by the chosen method."""
    if config.method == "file":
        return read_groups(Path(config.groups_file), class_names)
    if config.method == "random" and config.n_groups is not None:
        return random_groups(len(class_names), config.n_groups, config.seed)
    return singletons(len(class_names))


def load(store: Store, run_id: str) -> list[Group]:
    """The groups of a run."""
    return [tuple(group) for group in json.loads(store.download(run_id, _GROUPS).read_text())["groups"]]


def _title(config: GroupConfig) -> str:
    return f"{config.n_groups} random groups" if config.method == "random" else config.method


stage = Stage(
    version=1,
    config=GroupConfig,
    previous=activations.stage,
    execute=_execute,
    title=_title,
    inputs=lambda config: {"groups": file_digest(config.groups_file, "groups_file") if config.method == "file" else ""},
)
run = stage.run
