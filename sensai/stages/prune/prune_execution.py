"""Make the plans, prove them, and log them with the members as they are cut."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sensai.analysis.figures import static
from sensai.config import PruneConfig
from sensai.data.batches import batches
from sensai.ensemble import Ensemble
from sensai.ensemble.building import build_ensemble, fit_none_biases
from sensai.ensemble.calibration import RAW
from sensai.evaluation import Outputs, Size, accuracies, calibrated_accuracy, right_in_group, run_networks, size
from sensai.grouping.partitions import class_label
from sensai.pipeline.configured import cut_config
from sensai.pipeline.context import Context
from sensai.policy.member_plans import MemberPlan, make_plans
from sensai.pruning import proven
from sensai.sites import Plan, SiteMap, SizePrediction
from sensai.stages import group
from sensai.stages.prune.planning import removable
from sensai.tracking.artifact_names import LAYERS, MEMBERS_TABLE, PLANS, VAL_ANSWERS, WIDTHS_FIGURE
from sensai.tracking.metric_names import CALIBRATED_VAL_ACCURACY

# The number of images of the proof; more would not make it stronger.
PROOF_IMAGES = 2


def execute(config: PruneConfig, context: Context) -> None:
    """Make the plans and log them."""
    candidates = removable(config, context)
    sites = candidates.sites
    base = context.base_model
    prediction = SizePrediction(base.network, sites, base.spec.input_shape)
    groups = group.load(context.store, context.upstream["group"])
    plans = make_plans(cut_config(config), candidates, groups, prediction, base.spec.num_classes)
    context.run.log_json(_to_json(plans, sites), PLANS)
    images = context.example_images(base.spec, PROOF_IMAGES)
    error = proven(base.network, sites, [(member.classes, member.plan) for member in plans], images)
    ensemble = build(context, plans)
    # MLflow's comparison of runs shows metrics in the order of logging.
    if (outputs := validation_outputs(ensemble, context)) is not None:
        log_validation(outputs, ensemble, context)
    _log_sizes(ensemble, plans, sites, context)
    context.run.log_metrics({"proof_error": error})


def build(context: Context, plans: Sequence[MemberPlan]) -> Ensemble:
    """Return the members before training, on the device, with the "none" rows of groups fitted on validation data.

    Without validation data the rows are fitted on the training images: a bias of zero would be an arbitrary choice.
    """
    ensemble, data = cut(context, plans), context.data
    fitted_on = data.train if data.val is None else data.val
    images = batches(fitted_on, context.evaluation_batch, ensemble.normalization, context.device)
    fit_none_biases(ensemble, context.base_model.sites.head, images)
    return ensemble


def cut(context: Context, plans: Sequence[MemberPlan]) -> Ensemble:
    """Return the members before training, on the device, with "none" rows that are not fitted."""
    base = context.base_model
    pairs = [(member.classes, member.plan) for member in plans]
    names, normalization = context.data.class_names, context.normalization(base.spec)
    ensemble = build_ensemble(base.network, base.spec, base.sites, pairs, names, normalization)
    return ensemble.to(context.device).eval()


def log_validation(outputs: Outputs, ensemble: Ensemble, context: Context) -> dict[str, float]:
    """Log `val_accuracy`, `calibrated_val_accuracy` and `val_in_group_accuracy` of an ensemble, and return them.

    Log val_answers.csv too, one row an image: label and ensemble (class indices), and right_in_group, the share of the members
    with its class that tell it from their other classes.

    Args:
        outputs: of its members on the validation split.
        ensemble: its members are not run again.
        context: of the stage.
    """
    probabilities, right = RAW(outputs.members, ensemble.groups), right_in_group(outputs, ensemble)
    answers = {"label": outputs.labels, "ensemble": probabilities.argmax(1), "right_in_group": right}
    context.run.log_frame(pd.DataFrame(answers), VAL_ANSWERS)
    metrics = {
        "val_accuracy": accuracies(probabilities, outputs.labels)["accuracy"],
        CALIBRATED_VAL_ACCURACY: calibrated_accuracy(outputs, ensemble.groups),
        "val_in_group_accuracy": float(right.mean()),
    }
    context.run.log_metrics(metrics)
    return metrics


def validation_outputs(ensemble: Ensemble, context: Context) -> Outputs | None:
    """Return the outputs of the members on the validation split; None where the data have none."""
    val = context.data.val
    if val is None:
        return None
    images = batches(val, context.evaluation_batch, ensemble.normalization, context.device)
    return run_networks([member.network for member in ensemble.members], images)


def _log_sizes(ensemble: Ensemble, plans: list[MemberPlan], sites: SiteMap, context: Context) -> None:
    base = size(context.base_model.network, ensemble.spec.input_shape)
    sizes = [size(member.network, ensemble.spec.input_shape) for member in ensemble.members]
    layers = _layers(plans, sites, ensemble.class_names)
    context.run.log_frame(layers, LAYERS)
    context.run.log_frame(_members(plans, sizes, sites, ensemble.class_names), MEMBERS_TABLE)
    context.run.log_figure(static.widths(layers), WIDTHS_FIGURE)
    context.run.log_metrics(
        {
            "members": len(plans),
            "channels_kept": float(np.mean([kept_channels(member.plan, sites) for member in plans])) / sites.channels,
            "params_base": base.params,
            "params_max": max(each.params for each in sizes),
            "params_total": sum(each.params for each in sizes),
            "flops_base": base.flops,
            "flops_max": max(each.flops for each in sizes),
            "flops_total": sum(each.flops for each in sizes),
        }
    )


def kept_channels(plan: Plan, sites: SiteMap) -> int:
    """Return the number of removable channels that a plan keeps."""
    return sites.channels - sum(len(removed) for removed in plan.values())


def _layers(plans: list[MemberPlan], sites: SiteMap, class_names: tuple[str, ...]) -> pd.DataFrame:
    rows = [
        {
            "member": number,
            "classes": class_label(member.classes, class_names),
            "depth": depth,
            "site": site.name,
            "channels": site.channels,
            "kept": site.channels - len(member.plan.get(site.name, ())),
        }
        for number, member in enumerate(plans)
        for depth, site in enumerate(sites.sites)
    ]
    return pd.DataFrame(rows)


def _members(plans: list[MemberPlan], sizes: list[Size], sites: SiteMap, class_names: tuple[str, ...]) -> pd.DataFrame:
    rows = [
        {
            "member": number,
            "classes": class_label(member.classes, class_names),
            "channels_kept": kept_channels(member.plan, sites),
            "params": each.params,
            "flops": each.flops,
            "bytes": each.bytes,
        }
        for number, (member, each) in enumerate(zip(plans, sizes, strict=True))
    ]
    return pd.DataFrame(rows)


def _to_json(plans: list[MemberPlan], sites: SiteMap) -> dict[str, Any]:
    members = [
        {"classes": list(each.classes), "removed": {site: removed.tolist() for site, removed in each.plan.items()}}
        for each in plans
    ]
    return {"members": members, "kept_whole": sites.kept_whole}
