"""Evaluate an ensemble on the test split, and log what was measured."""

import json
import logging

import numpy as np
import pandas as pd
from tqdm import tqdm

from sensai import evaluation
from sensai.analysis.figures import static, static_matrices
from sensai.config import EvaluateConfig
from sensai.data.batches import batches
from sensai.data.dataset import Split
from sensai.ensemble import Ensemble
from sensai.evaluation.combinations import Answered
from sensai.evaluation.ensemble_metrics import accuracy_metrics, members_table, size_metrics
from sensai.grouping.partitions import Group, class_label, is_partition
from sensai.pipeline.context import Context
from sensai.runtimes import prepare
from sensai.stages import retrain
from sensai.stages.evaluate import combining, int8, judging, latencies, test_split
from sensai.stages.evaluate.leakage import warn_of_leakage
from sensai.stages.evaluate.measured_host import timing_host_of
from sensai.stages.retrain.retrain_execution import log_member_metrics, open_member_run
from sensai.tracking import tags
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


def execute(config: EvaluateConfig, context: Context) -> None:
    """Evaluate the ensemble and log what was measured."""
    test_images, val_images = test_split(context.data), combining.validation_split(config, context.data)
    base = context.base_model
    ensemble = retrain.load(context.store, context.upstream["retrain"]).to(context.device)
    context.run.set_tags({tags.HOST: json.dumps(timing_host_of(config)), tags.VAL_DIGEST: context.data.val_digest})

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
    members = members_table(ensemble, evaluation.member_metrics(outputs, ensemble, thresholds), times.member_ms)
    metrics = {
        **accuracy_metrics(probabilities, test.base, outputs.labels),
        **size_metrics(members, base.network, base.spec.input_shape),
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


def _answered(split: Split, ensemble: Ensemble, context: Context) -> Answered:
    """Return the outputs of members and base model for a split."""
    stream = tqdm(
        batches(split, context.evaluation_batch, ensemble.normalization, context.device),
        total=-(-len(split) // context.evaluation_batch),
        desc="evaluate",
    )
    networks = [*(member.network for member in ensemble.members), context.base_model.network]
    outputs = evaluation.run_networks(networks, stream)
    return Answered(outputs, evaluation.softmax(outputs.members.pop()))


def _answers(probabilities: np.ndarray, base_probabilities: np.ndarray, outputs: evaluation.Outputs) -> pd.DataFrame:
    """Return class indices, one row an image in the order of the split, as `sensai.analysis.differences` reads them."""
    return pd.DataFrame(
        {
            "label": outputs.labels,
            "ensemble": probabilities.argmax(1),
            "base": base_probabilities.argmax(1),
        }
    )


def _thresholds(val: Answered | None, ensemble: Ensemble) -> list[evaluation.Thresholds | None]:
    """Return the decision thresholds of each member."""
    if val is None:
        _log.warning(
            "members are judged at their natural thresholds, as there are no validation data to fit others on; "
            "a joint loss leaves the natural threshold arbitrary"
        )
        return evaluation.natural_thresholds(ensemble)
    return evaluation.fitted_thresholds(val.outputs, ensemble)


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
        with open_member_run(ensemble, number, context, split="test") as run:
            if number in retrained:
                run.set_tags({tags.MEMBER_RUN: retrained[number]})
            metrics = {str(name): value for name, value in measured[number].items() if not np.isnan(value)}
            log_member_metrics(metrics, fitted, run)
