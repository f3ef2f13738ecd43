"""The metrics that runs log. `METRICS` gives the stages that log each, its unit and its meaning.

Several metrics share an entry whose name has a part in `<...>`: `accuracy_<combine>` stands for every name of that form.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

from sensai.evaluation.roles import BASE


class Metric(NamedTuple):
    """One entry of `METRICS`.

    Attributes:
        stages: the stages that log it; "member" is a member's run, "trial" one of `tune`, "cell" one of `grouping_study`.
        unit: fraction (in [0, 1]), count, ms, s, MiB, ratio or another one.
        meaning: its meaning, in one line.
    """

    stages: tuple[str, ...]
    unit: str
    meaning: str


# `tune` ranks by this one.
CALIBRATED_VAL_ACCURACY = "calibrated_val_accuracy"

METRICS = {
    # Accuracy on validation data, by which every choice is made.
    "val_accuracy": Metric(
        ("baseline", "prune", "retrain", "evaluate", "register", "main", "trial", "cell"),
        "fraction",
        "top-1 accuracy on validation data: of raw scores; of `evaluate` with the chosen combination, cross-fitted",
    ),
    CALIBRATED_VAL_ACCURACY: Metric(
        ("prune", "retrain", "trial"),
        "fraction",
        "top-1 accuracy on validation data with the combination that is likeliest there, cross-fitted",
    ),
    "val_in_group_accuracy": Metric(
        ("prune", "retrain"),
        "fraction",
        "validation images that the member of their class tells from its other classes",
    ),
    "accuracy_given_up": Metric(("retrain",), "fraction", "validation accuracy that stops cost against no stop"),
    "curve/<metric>": Metric(
        ("baseline", "member"),
        "as the metric",
        "by epoch (step), on validation data: the largest output is the answer; with a joint loss of all members together",
    ),
    # Accuracy on test data.
    "accuracy": Metric(
        ("evaluate", "register", "main", "cell"), "fraction", "top-1 accuracy of the ensemble on test data"
    ),
    "top5_accuracy": Metric(
        ("evaluate", "register", "main"), "fraction", "top-5 accuracy of the ensemble on test data"
    ),
    "base_accuracy": Metric(
        ("evaluate", "register", "main"), "fraction", "top-1 accuracy of the base model on test data"
    ),
    "base_top5_accuracy": Metric(
        ("evaluate", "register", "main"), "fraction", "top-5 accuracy of the base model on test data"
    ),
    "accuracy_drop": Metric(
        ("evaluate", "register", "main", "promote"),
        "fraction",
        "accuracy of the base model less that of the ensemble; of `promote` on validation data",
    ),
    "accuracy_<combine>": Metric(
        ("evaluate", "register", "main"), "fraction", "test accuracy with this way to combine outputs"
    ),
    "val_accuracy_<combine>": Metric(
        ("evaluate", "register", "main"),
        "fraction",
        "cross-fitted validation accuracy with this way to combine outputs",
    ),
    "base_val_accuracy": Metric(
        ("evaluate", "register", "main", "tune"), "fraction", "validation accuracy of the base model"
    ),
    "ece": Metric(("evaluate", "register", "main"), "fraction", "expected calibration error on test data"),
    "nll": Metric(("evaluate", "register", "main"), "nats", "mean negative log-likelihood on test data"),
    "val_ece": Metric(
        ("evaluate", "register", "main"), "fraction", "expected calibration error on validation data, cross-fitted"
    ),
    "val_nll": Metric(
        ("evaluate", "register", "main"), "nats", "mean negative log-likelihood on validation data, cross-fitted"
    ),
    "ece_<combine>": Metric(("evaluate", "register", "main"), "fraction", "ece with this way to combine outputs"),
    "nll_<combine>": Metric(("evaluate", "register", "main"), "nats", "nll with this way to combine outputs"),
    "val_ece_<combine>": Metric(
        ("evaluate", "register", "main"), "fraction", "val_ece with this way to combine outputs"
    ),
    "val_nll_<combine>": Metric(("evaluate", "register", "main"), "nats", "val_nll with this way to combine outputs"),
    "base_ece": Metric(("evaluate", "register", "main"), "fraction", "ece of the base model"),
    "base_nll": Metric(("evaluate", "register", "main"), "nats", "nll of the base model"),
    "base_val_ece": Metric(("evaluate", "register", "main"), "fraction", "val_ece of the base model"),
    "base_val_nll": Metric(("evaluate", "register", "main"), "nats", "val_nll of the base model"),
    "rejected": Metric(("evaluate", "register", "main"), "fraction", "test images without an answer (`reject`)"),
    "accuracy_answered": Metric(
        ("evaluate", "register", "main"), "fraction", "accuracy on the test images that are answered"
    ),
    "accuracy_int8": Metric(("evaluate", "register", "main"), "fraction", "test accuracy of quantised members"),
    "val_accuracy_int8": Metric(
        ("evaluate", "register", "main"), "fraction", "validation accuracy of quantised members"
    ),
    "in_group_accuracy": Metric(
        ("evaluate", "register", "main", "member", "cell"),
        "fraction",
        "images that the member of their class tells from its other classes",
    ),
    "none_accuracy": Metric(
        ("evaluate", "register", "main", "member", "cell"),
        "fraction",
        'share of "none" among the answers to images of other members\' classes, at the threshold for balanced_accuracy',
    ),
    "errors_between_groups": Metric(
        ("evaluate", "register", "main"), "fraction", "errors that are answers in another group"
    ),
    "errors_in_groups": Metric(
        ("evaluate", "register", "main"), "fraction", "errors that are answers in the right group"
    ),
    "binary_accuracy": Metric(
        ("member",),
        "fraction",
        "images that a member tells to be of its classes or not, at the threshold with the most of them on validation data",
    ),
    "balanced_accuracy": Metric(
        ("member",), "fraction", "mean recall of both answers, at the threshold with the highest on validation data"
    ),
    "roc_auc": Metric(("member",), "fraction", "area under the ROC curve of a member's score for its classes"),
    "average_precision": Metric(
        ("member",), "fraction", "mean precision over all recalls, of a member's score for its classes"
    ),
    "binary_accuracy_mean": Metric(
        ("evaluate", "register", "main"), "fraction", "mean of the members' binary_accuracy"
    ),
    "binary_accuracy_min": Metric(
        ("evaluate", "register", "main"), "fraction", "least of the members' binary_accuracy"
    ),
    # Sizes. FLOPs are 2 x multiply-accumulates at batch 1.
    "params": Metric(("baseline", "member"), "count", "parameters of the network"),
    "flops": Metric(("baseline", "member"), "FLOPs", "FLOPs of the network"),
    "bytes": Metric(("member",), "bytes", "size of the weights"),
    "params_base": Metric(("prune", "evaluate", "register", "main"), "count", "parameters of the base model"),
    "params_max": Metric(
        ("prune", "evaluate", "register", "main", "trial"), "count", "parameters of the largest member"
    ),
    "params_total": Metric(("prune", "evaluate", "register", "main"), "count", "parameters of all members"),
    "flops_base": Metric(
        ("prune", "evaluate", "register", "main", "trial", "cell"), "FLOPs", "FLOPs of the base model"
    ),
    "flops_max": Metric(
        ("prune", "evaluate", "register", "main", "trial", "cell"), "FLOPs", "FLOPs of the largest member"
    ),
    "flops_total": Metric(("prune", "evaluate", "register", "main", "trial", "cell"), "FLOPs", "FLOPs of all members"),
    "flops_share": Metric(("cell",), "fraction", "flops_max / flops_base"),
    "flops_speedup": Metric(("evaluate", "register", "main", "trial"), "ratio", "flops_base / flops_max"),
    "predicted_flops_max": Metric(("group",), "FLOPs", "predicted FLOPs of the largest member, at `ratio`"),
    "predicted_flops_total": Metric(("group",), "FLOPs", "predicted FLOPs of all members, at `ratio`"),
    "members": Metric(("prune", "evaluate", "register", "main", "trial"), "count", "members of the ensemble"),
    "channels_kept": Metric(("prune",), "fraction", "removable channels that a member keeps, mean over members"),
    "proof_error": Metric(("prune",), "absolute", "largest difference between a member and the masked network"),
    "groups": Metric(("group",), "count", "groups of classes"),
    "coupling_within": Metric(("group", "cell"), "channels", "mean coupling of two classes of one group"),
    "coupling_between": Metric(("group",), "channels", "mean coupling of two classes of different groups"),
    "separability": Metric(("cell",), "fraction", "val_in_group_accuracy of the cut members, before any retraining"),
    # Time.
    "latency_base_ms": Metric(
        ("evaluate", "register", "main", "trial", "promote"), "ms", "one batch in the base model, median"
    ),
    "latency_member_max_ms": Metric(
        ("evaluate", "register", "main", "trial"), "ms", "one batch in the slowest member by itself, median"
    ),
    "latency_ensemble_ms": Metric(
        ("evaluate", "register", "main", "promote"), "ms", "one batch in all members, with the combination, median"
    ),
    "latency_<network>_low_ms": Metric(
        ("evaluate", "register", "main"),
        "ms",
        "lower bound of the 95 % interval of the median, of base model or ensemble",
    ),
    "latency_<network>_high_ms": Metric(("evaluate", "register", "main"), "ms", "upper bound of that interval"),
    "latency_ensemble_int8_ms": Metric(
        ("evaluate", "register", "main"), "ms", "one image in quantised members, median"
    ),
    "latency_ms": Metric(("member",), "ms", "one batch in the member by itself, median"),
    "latency_p<quantile>_ms": Metric(("predict",), "ms", "quantile of the time of one image"),
    "speedup_critical_path": Metric(
        ("evaluate", "register", "main"), "ratio", "latency_base_ms / latency_member_max_ms"
    ),
    "speedup_ensemble": Metric(("evaluate", "register", "main"), "ratio", "latency_base_ms / latency_ensemble_ms"),
    "speedup_int8": Metric(
        ("evaluate", "register", "main"), "ratio", "exact members / quantised members, in one runtime"
    ),
    "overhead_ensemble": Metric(
        ("evaluate", "register", "main"), "ratio", "time of the ensemble / of its members on the threads without a gap"
    ),
    "overhead": Metric(("activations",), "ratio", "pass with the statistics / without"),
    "train_images": Metric(("retrain",), "count", "images of the training split"),
    "images_per_s": Metric(("activations", "retrain"), "images/s", "images read; of `retrain` members x images"),
    "seconds": Metric(
        ("baseline", "member", "retrain", "cell"), "s", "training time; of `retrain` of the slowest worker"
    ),
    "seconds_saved": Metric(("retrain",), "s", "time that stops saved against no stop"),
    "epochs": Metric(("trial",), "count", "epochs for which its members were retrained"),
    "epochs_run": Metric(("baseline", "member"), "count", "epochs trained"),
    "epochs_saved": Metric(("retrain",), "count", "epochs of all members that stops saved"),
    "bf16_speedup": Metric(("retrain",), "ratio", "training step in float32 / in bfloat16, measured"),
    # Studies.
    "trials": Metric(("tune",), "count", "results that the study knows, logged ones among them"),
    "best_val_accuracy": Metric(("tune",), "fraction", "val_accuracy of the recommended trial"),
    f"best_{CALIBRATED_VAL_ACCURACY}": Metric(
        ("tune",), "fraction", f"{CALIBRATED_VAL_ACCURACY} of the recommended trial"
    ),
    "best_flops_speedup": Metric(("tune",), "ratio", "flops_speedup of the recommended trial"),
    "hypervolume": Metric(("tune",), "fraction", "calibrated accuracy x cost that the front dominates"),
    "cost": Metric(("trial",), "fraction", "the objective as a share of the base model's"),
    "cells": Metric(("grouping_study",), "count", "cells of the study"),
    "comparisons": Metric(("grouping_study",), "count", "pairs of methods, for every measure and setting"),
    # Registered versions and serving.
    "version": Metric(("register", "main", "promote", "tune"), "number", "version of the registered model"),
    "control_equal_flops_<metric>": Metric(
        ("main",), "as the metric", "the metric of the evaluation of the control of equal training FLOPs"
    ),
    "control_<metric>": Metric(("main",), "as the metric", "the metric of the control's evaluation"),
    "replicas_<metric>": Metric(("main",), "as the metric", "the metric of the replicas' evaluation"),
    "base_further_<metric>": Metric(
        ("main",), "as the metric", "the metric of the evaluation of the base model trained further"
    ),
    "frames": Metric(("predict",), "count", "images answered"),
    "requests": Metric(("serve",), "count", "requests answered"),
    # The step of these metrics is the number of processes. They are means over repeats, geometric ones of speeds.
    "<task>_<way>_images_per_s": Metric(("contention",), "images/s", "all processes together"),
    "<task>_<way>_start_s": Metric(("contention",), "s", "until every process has done its first batch"),
    "<task>_<way>_step_ms": Metric(("contention",), "ms", "one step, mean"),
    "<task>_<way>_data_share": Metric(("contention",), "fraction", "time spent waiting for data"),
    "<task>_<way>_peak_mib": Metric(("contention",), "MiB", "peak resident memory of all processes"),
    "<task>_<way>_threads": Metric(("contention",), "count", "threads of all processes"),
    "<task>_speedup": Metric(
        ("contention",), "ratio", "images/s of the engine / of naive processes, in the same repeat"
    ),
}


def yardstick_metric(yardstick: str, metric: str) -> str:
    """Return the name under which `main` carries a metric of a yardstick's evaluation."""
    # `base_accuracy` and the like are those of the base model before.
    return f"{'base_further' if yardstick == BASE else yardstick}_{metric}"


def metric_entry(name: str) -> str | None:
    """Return the key of `METRICS` that covers a logged metric; None: no key does."""
    return entry_of(name, METRICS)


def entry_of(name: str, table: Collection[str]) -> str | None:
    """Return the key of a table of names that covers a name: itself, or the first form `..<..>..` that it has."""
    if name in table:
        return name
    forms = (each for each in table if "<" in each)
    return next((each for each in forms if re.fullmatch(re.sub("<[a-z]+>", ".+", re.escape(each)), name)), None)
