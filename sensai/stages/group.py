"""group: Choose the classes that share a member.

Logs groups.json, what their members would cost (sizes.csv, predicted_flops_max, predicted_flops_total), and the coupling of
all classes (coupling_within, coupling_between, coupling.csv, its heatmap, and in groups.json the order in which that stands).
"""

from functools import partial

import numpy as np
import pandas as pd

from sensai.activations import Statistics
from sensai.analysis.figures import static_matrices
from sensai.analysis.grouped import Grouped
from sensai.config import Group as GroupParameters
from sensai.config import GroupConfig
from sensai.data.batches import batches
from sensai.errors import InputError
from sensai.evaluation import confusion, run_networks
from sensai.grouping.costs import MemberCosts
from sensai.grouping.grouping_inputs import form_groups
from sensai.grouping.partitions import Group, class_label
from sensai.grouping.similarities import confusion_similarity, coupling_means, leaf_order
from sensai.pipeline.base_model import check_removable
from sensai.pipeline.closing import Findings, sentence
from sensai.pipeline.configured import grouping_inputs
from sensai.pipeline.context import Context, file_digest
from sensai.pipeline.stage import Stage
from sensai.sites import Scope, SiteMap, SizePrediction
from sensai.stages import activations
from sensai.tracking import Store
from sensai.tracking.artifact_names import COUPLING, COUPLING_FIGURE, GROUPS, SIZES


def _execute(config: GroupConfig, context: Context) -> None:
    class_names, base = context.data.class_names, context.base_model
    sites, statistics = within_scope(config.scope, context)
    prediction = SizePrediction(base.network, sites, base.spec.input_shape)
    costs = MemberCosts(statistics, prediction, config.ratio)
    matrix = costs.counts.coupling()
    confused = partial(_confused, config, context)
    inputs = grouping_inputs(config, class_names, statistics, costs, lambda: matrix, confused)
    groups = form_groups(config.method, inputs)
    order = leaf_order(matrix)
    content = {
        "groups": [list(group) for group in groups],
        "class_names": list(class_names),
        "order": order.tolist(),
    }
    context.run.log_json(content, GROUPS)
    context.run.log_metrics({"groups": len(groups), **coupling_means(matrix, groups)})
    _log_sizes(groups, costs.sizes(groups), class_names, context)
    context.run.log_frame(pd.DataFrame(matrix, columns=list(class_names)), COUPLING)
    title = f"Channels that both classes' plans remove at ratio {config.ratio:g}"
    figure = static_matrices.grouped_heatmap(matrix, class_names, groups, order, title)
    context.run.log_figure(figure, COUPLING_FIGURE)


def within_scope(scope: Scope, context: Context) -> tuple[SiteMap, Statistics]:
    """Return the sites of the base model within a scope, and their statistics in the same order.

    Raises:
        InputError: there are none.
    """
    sites = context.base_model.sites.within(scope)
    check_removable(sites, context.config.arch)
    statistics = context.read(activations.load, "activations")
    return sites, {site.name: statistics[site.name] for site in sites.sites}


def _confused(config: GroupConfig, context: Context) -> np.ndarray:
    """Return how often the base model confuses two classes on the validation split, which serves every choice: float64 (K, K).

    Raises:
        InputError: the data have none.
    """
    val, base = context.data.val, context.base_model
    if val is None:
        asked = "similarity='confusion'" if config.by_similarity else f"method={config.method!r}"
        raise InputError(f"{asked}: the data have no validation split")
    images = batches(val, context.evaluation_batch, context.normalization(base.spec), context.device)
    outputs = run_networks([base.network], images)
    return confusion_similarity(confusion(outputs.members[0], outputs.labels))


def _log_sizes(
    groups: list[Group], sizes: list[tuple[int, int]], class_names: tuple[str, ...], context: Context
) -> None:
    rows = [
        {"group": number, "classes": class_label(group, class_names), "params": params, "flops": flops}
        for number, (group, (params, flops)) in enumerate(zip(groups, sizes, strict=True))
    ]
    context.run.log_frame(pd.DataFrame(rows), SIZES)
    flops = [flops for _, flops in sizes]
    context.run.log_metrics({"predicted_flops_max": max(flops), "predicted_flops_total": sum(flops)})


def load(store: Store, run_id: str) -> list[Group]:
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
