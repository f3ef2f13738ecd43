"""evaluate: Read the test split once, for accuracies, sizes, latencies and confusion.

Logs accuracies, sizes and latencies of base model and ensemble, the verdict on them, both answers to every image, the ways to
combine members' outputs beside each other, confusion matrices (of groups: between and inside them) and the members' table; one
child run a member with its test metrics, at decision thresholds fitted on validation data. A base model that has seen
validation images gets a warning. The tag `sensai.role` tells an ensemble from the networks that it is compared with.
"""

import json
import logging

import numpy as np
import pandas as pd
from tqdm import tqdm

from sensai import evaluation
from sensai.analysis.figures import static, static_matrices
from sensai.config import EvaluateConfig, GroupingStudyConfig, MainConfig, TuneConfig
from sensai.data.batches import batches
from sensai.data.dataset import Dataset, Split
from sensai.ensemble import Ensemble
from sensai.errors import InputError
from sensai.evaluation.verdict import read
from sensai.grouping.partitions import Group, is_partition
from sensai.pipeline.closing import Findings, sentence
from sensai.pipeline.context import Context
from sensai.pipeline.devices import device_of
from sensai.pipeline.stage import Stage
from sensai.runtimes import check_runtime, prepare
from sensai.stages import retrain
from sensai.stages.evaluate import combining, int8, judging, latencies
from sensai.stages.evaluate.leakage import warn_of_leakage
from sensai.stages.group import class_label
from sensai.tracking import Store, tags
from sensai.tracking.artifact_names import (
    ANSWERS,
    CONFUSION,
    CONFUSION_FIGURE,
    CONFUSION_IN_GROUPS,
    CONFUSION_IN_GROUPS_FIGURE,
    GROUP_CONFUSION,
    GROUP_CONFUSION_FIGURE,
    MEMBERS_FIGURE,
    MEMBERS_TABLE,
)

_log = logging.getLogger(__name__)


def _execute(config: EvaluateConfig, context: Context) -> None:
    test_images, val_images = test_split(context.data), combining.validation_split(config, context.data)
    base = context.base_model
    ensemble = retrain.load(context.store, context.upstream["retrain"]).to(context.device)
    context.run.set_tags({tags.HOST: json.dumps(_timing_host(config)), tags.VAL_DIGEST: context.data.val_digest})

    val = None if val_images is None else _answered(val_images, ensemble, context)
    test = _answered(test_images, ensemble, context)
    if val is not None:
        warn_of_leakage(val, test, context.run)
    outputs = test.outputs
    calibration = combining.calibrate(ensemble, test, val, config, context.run)
    probabilities = calibration(outputs.members, ensemble.groups)

    prepared = prepare(ensemble)
    times = latencies.measured(ensemble, prepared, calibration, test_images, config, context)
    if config.int8 and val_images is not None:
        context.run.log_metrics(
            int8.metrics(prepared, ensemble.groups, calibration, val_images, test_images, context.evaluation_batch)
        )
    thresholds = _thresholds(val, ensemble)
    members = _members_table(ensemble, evaluation.member_metrics(outputs, ensemble, thresholds), times.members)
    base_size = evaluation.size(base.network, base.spec.input_shape)
    metrics = {
        **_accuracy_metrics(probabilities, test.base, outputs),
        "members": len(ensemble.members),
        "binary_accuracy_mean": members["binary_accuracy"].mean(),
        "binary_accuracy_min": members["binary_accuracy"].min(),
        "params_base": base_size.params,
        "params_max": members["params"].max(),
        "params_total": members["params"].sum(),
        "flops_base": base_size.flops,
        "flops_max": members["flops"].max(),
        "flops_total": members["flops"].sum(),
        "flops_speedup": base_size.flops / members["flops"].max(),
        **times.metrics(),
    }
    context.run.log_metrics(metrics)
    answers = _answers(probabilities, test.base, outputs)
    _judge(ensemble, metrics, answers, config, context)
    context.run.log_frame(answers, ANSWERS)
    context.run.log_frame(members, MEMBERS_TABLE)
    context.run.log_figure(static.members(members), MEMBERS_FIGURE)
    matrix = evaluation.confusion(probabilities, outputs.labels)
    _log_confusion(matrix, ensemble.class_names, context)
    if any(1 < len(group) < len(ensemble.class_names) for group in ensemble.groups):
        context.run.log_metrics(evaluation.group_metrics(outputs, ensemble, thresholds))
        # An error is between groups or within one only where each class has one group.
        if is_partition(ensemble.groups):
            _log_group_confusion(matrix, ensemble, context)
    _log_member_runs(ensemble, members, thresholds, context)


def _judge(
    ensemble: Ensemble, metrics: dict[str, float], answers: pd.DataFrame, config: EvaluateConfig, context: Context
) -> None:
    """Tag the run with the role of the ensemble and with the verdict."""
    role = judging.role(ensemble, metrics)
    commands = judging.commands_after(config, judging.registering(config, context.run.id), {})
    verdict = judging.by_itself(role, metrics, answers, commands)
    context.run.set_tags({tags.ROLE: role, tags.VERDICT: str(verdict)})


def check(config: EvaluateConfig | MainConfig | GroupingStudyConfig | TuneConfig, data: Dataset) -> None:
    """Refuse data without the splits that are needed, and a runtime that is not here, before anything is trained.

    Raises:
        InputError: there is no test split, no validation split that the parameters need, or no such runtime on this machine.
    """
    if config.runtime != "auto":
        check_runtime(config.runtime)
    test_split(data)
    combining.validation_split(config, data)


def _timing_host(config: EvaluateConfig) -> dict[str, str]:
    return latencies.timing_host(config.runtime, device_of(config), config.latency_batch_size)


def test_split(data: Dataset) -> Split:
    """Return the test split.

    Raises:
        InputError: the data have none.
    """
    if data.test is None:
        raise InputError(
            f"dataset={data.name!r}: has no test split to evaluate on; lay the folder out as train/ and test/ "
            "(and, if you like, val/), one folder a class in each"
        )
    return data.test


def _answered(split: Split, ensemble: Ensemble, context: Context) -> combining.Answered:
    """Return the outputs of members and base model for a split."""
    stream = tqdm(
        batches(split, context.evaluation_batch, ensemble.normalization, context.device),
        total=-(-len(split) // context.evaluation_batch),
        desc="evaluate",
    )
    networks = [*(member.network for member in ensemble.members), context.base_model.network]
    outputs = evaluation.run_networks(networks, stream)
    return combining.Answered(outputs, evaluation.softmax(outputs.members.pop()))


def _accuracy_metrics(
    probabilities: np.ndarray, base_probabilities: np.ndarray, outputs: evaluation.Outputs
) -> dict[str, float]:
    own = evaluation.accuracies(probabilities, outputs.labels)
    base = evaluation.accuracies(base_probabilities, outputs.labels)
    return {
        **own,
        **{f"base_{name}": value for name, value in base.items()},
        "accuracy_drop": base["accuracy"] - own["accuracy"],
    }


def _answers(probabilities: np.ndarray, base_probabilities: np.ndarray, outputs: evaluation.Outputs) -> pd.DataFrame:
    """Return class indices, one row an image in the order of the split, as `sensai.analysis.differences` reads them."""
    return pd.DataFrame(
        {
            "label": outputs.labels,
            "ensemble": probabilities.argmax(1),
            "base": base_probabilities.argmax(1),
        }
    )


def _thresholds(val: combining.Answered | None, ensemble: Ensemble) -> list[evaluation.Thresholds | None]:
    """Return the decision thresholds of each member."""
    if val is None:
        _log.warning(
            "members are judged at their natural thresholds, as there are no validation data to fit others on; "
            "a joint loss leaves the natural threshold arbitrary"
        )
        return evaluation.natural_thresholds(ensemble)
    return evaluation.fitted_thresholds(val.outputs, ensemble)


def _members_table(ensemble: Ensemble, metrics: list[dict[str, float]], times: list[float]) -> pd.DataFrame:
    rows = []
    for number, (member, values, milliseconds) in enumerate(zip(ensemble.members, metrics, times, strict=True)):
        sizes = evaluation.size(member.network, ensemble.spec.input_shape)
        rows.append(
            {
                "member": number,
                "classes": class_label(member.classes, ensemble.class_names),
                **values,
                "params": sizes.params,
                "flops": sizes.flops,
                "bytes": sizes.bytes,
                "latency_ms": milliseconds,
            }
        )
    return pd.DataFrame(rows)


def _log_confusion(matrix: np.ndarray, names: tuple[str, ...], context: Context) -> None:
    context.run.log_frame(pd.DataFrame(matrix, columns=list(names)), CONFUSION)
    context.run.log_figure(
        static_matrices.confusion(matrix, names, "Test images: true class (row), answer (column)"), CONFUSION_FIGURE
    )


def _log_group_confusion(matrix: np.ndarray, ensemble: Ensemble, context: Context) -> None:
    names, groups = ensemble.class_names, ensemble.groups
    context.run.log_metrics(evaluation.error_shares(matrix, groups))
    labels = [class_label(group, names) for group in groups]
    between = evaluation.confusion_between_groups(matrix, groups)
    inside = evaluation.confusion_in_groups(matrix, groups)
    context.run.log_frame(pd.DataFrame(between, columns=labels), GROUP_CONFUSION)
    context.run.log_frame(_in_groups_table(inside, groups, names), CONFUSION_IN_GROUPS)
    context.run.log_figure(
        static_matrices.confusions(
            {"": (between, labels)}, "Test images: group of the true class (row), of the answer (column)"
        ),
        GROUP_CONFUSION_FIGURE,
    )
    panels = {
        label: (counts, [names[each] for each in group])
        for label, counts, group in zip(labels, inside, groups, strict=True)
        if len(group) > 1
    }
    context.run.log_figure(
        static_matrices.confusions(panels, "Test images answered in their group: true class (row), answer (column)"),
        CONFUSION_IN_GROUPS_FIGURE,
    )


def _in_groups_table(inside: list[np.ndarray], groups: list[Group], names: tuple[str, ...]) -> pd.DataFrame:
    """Return one row for every pair of true class and answer that occurs in a group."""
    rows = [
        {"group": number, "label": names[group[label]], "answer": names[group[answer]], "images": counts[label, answer]}
        for number, (counts, group) in enumerate(zip(inside, groups, strict=True))
        for label, answer in np.argwhere(counts)
    ]
    return pd.DataFrame(rows, columns=["group", "label", "answer", "images"])


def _log_member_runs(
    ensemble: Ensemble, members: pd.DataFrame, thresholds: list[evaluation.Thresholds | None], context: Context
) -> None:
    retrained = context.store.member_runs(context.upstream["retrain"])
    measured = members.drop(columns=["member", "classes"]).astype("float64").to_dict("records")
    for number, fitted in enumerate(thresholds):
        with retrain.open_member_run(ensemble, number, context, split="test") as run:
            if number in retrained:
                run.set_tags({tags.MEMBER_RUN: retrained[number]})
            metrics = {str(name): value for name, value in measured[number].items() if not np.isnan(value)}
            retrain.log_member_metrics(metrics, fitted, run)


def found(store: Store, run_id: str) -> Findings:
    """Return what a run found: its numbers, and the verdict."""
    metrics, verdict = store.metrics_of(run_id), read(store.tags_of(run_id).get(tags.VERDICT, ""))
    fact = sentence(
        metrics,
        "test accuracy {accuracy:accuracy}, of the base model {base_accuracy:accuracy}",
        "{latency_ensemble_ms:ms}, the base model {latency_base_ms:ms}",
        "the slowest member alone {latency_member_max_ms:ms}",
    )
    return Findings([fact, *verdict.sentences], verdict.command, verdict.purpose)


stage = Stage(
    version=8,
    config=EvaluateConfig,
    previous=retrain.stage,
    execute=_execute,
    title=retrain.title,
    reads=("val", "test"),
    inputs=lambda config, _: {"host": _timing_host(config)},
    found=found,
    check=check,
)
run = stage.run
