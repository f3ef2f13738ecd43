"""Form the groups, and log them with what their members would cost."""

from functools import partial

import numpy as np
import pandas as pd

from sensai.activations import Statistics
from sensai.analysis.figures import static_matrices
from sensai.config import GroupConfig
from sensai.data.batches import batches
from sensai.errors import InputError
from sensai.evaluation import confusion, run_networks
from sensai.grouping.costs import MemberCosts
from sensai.grouping.grouping_inputs import form_groups
from sensai.grouping.partitions import Group, class_label
from sensai.grouping.similarities import confusion_similarity, coupling_means, leaf_order
from sensai.pipeline.base_model import check_removable
from sensai.pipeline.configured import grouping_inputs
from sensai.pipeline.context import Context
from sensai.sites import Scope, SiteMap, SizePrediction
from sensai.stages import activations
from sensai.tracking.artifact_names import COUPLING, COUPLING_FIGURE, GROUPS, SIZES


def execute(config: GroupConfig, context: Context) -> None:
    """Form the groups and log them."""
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
