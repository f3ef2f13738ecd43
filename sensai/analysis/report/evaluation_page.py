"""The page on an evaluation, from what its runs have logged."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from mlflow.entities import Run

from sensai.analysis.curves import curves
from sensai.analysis.figures import interactive, interactive_matrices
from sensai.analysis.grouped import Grouped
from sensai.analysis.report.page import Image, Part, Plot, Table, Text, render_page
from sensai.analysis.report.page_inputs import Logged, table_of
from sensai.analysis.report.yardstick_comparison import Comparison
from sensai.evaluation.roles import TITLES
from sensai.tracking import tags
from sensai.tracking.artifact_names import (
    COMBINATIONS,
    CONFUSION,
    CONFUSION_IN_GROUPS_FIGURE,
    COUPLING,
    GROUP_CONFUSION,
    GROUPS,
    LAYERS,
    MEMBERS_TABLE,
    RELIABILITY_FIGURE,
    RUNTIMES,
    SIMILARITY,
)
from sensai.tracking.tracking_store import tracking_client


@dataclass(frozen=True)
class _Evaluation:
    """An evaluate run and all runs that it stands on.

    Attributes:
        logged: the artifacts of the store.
        run: the evaluation.
        runs: stage -> run id, of all these runs.
    """

    logged: Logged
    run: Run
    runs: Mapping[str, str]

    @classmethod
    def of(cls, evaluate_run: str, tracking_uri: str) -> "_Evaluation":
        logged = Logged(tracking_client(tracking_uri))
        run = logged.client.get_run(evaluate_run)
        upstream = {
            key.removeprefix(tags.UPSTREAM): value
            for key, value in run.data.tags.items()
            if key.startswith(tags.UPSTREAM)
        }
        return cls(logged, run, upstream | {"evaluate": evaluate_run})

    def artifacts(self, stage: str) -> set[str]:
        """Return the names of the artifacts of a stage's run."""
        return self.logged.artifacts(self.runs[stage])

    def reading(self, stage: str, name: str) -> AbstractContextManager[bytes]:
        """Open an artifact of a stage's run; its content is read within the block."""
        return self.logged.reading(self.runs[stage], name)


def render(evaluate_run: str, tracking_uri: str, yardstick_runs: Mapping[str, str], commands: Mapping[str, str]) -> str:
    """Return the page on one evaluate run, as HTML without references to other files or hosts.

    Args:
        evaluate_run: what the page is about.
        tracking_uri: of the store that holds it.
        yardstick_runs: name of a yardstick -> its evaluate run.
        commands: the next command after the verdict (see `Comparison.verdict`).

    Raises:
        IncomparableError: a run has no answers, or a yardstick is on other data.
        DamagedError: an artifact of a run cannot be read.
    """
    evaluation = _Evaluation.of(evaluate_run, tracking_uri)
    comparison = Comparison.of(evaluate_run, yardstick_runs, tracking_uri)
    verdict = comparison.verdict(commands)
    parts: list[Part] = [
        *_warning(evaluation),
        *([Text("Verdict", verdict.lines)] if verdict else []),
        Table("Base model and ensemble", comparison.summary().reset_index()),
        Table("Differences in accuracy", comparison.gains().reset_index()),
        *_tables(evaluation),
    ]
    links = [evaluation.logged.link(stage, run_id) for stage, run_id in evaluation.runs.items()]
    for name, run_id in yardstick_runs.items():
        links.append(evaluation.logged.link(f"evaluate of the {TITLES[name]}", run_id))
    config = json.loads(evaluation.run.data.tags.get(tags.CONFIG, "{}"))
    return render_page(evaluation.run.info.run_name, [*parts, *_figures(evaluation)], links, config)


def _warning(evaluation: _Evaluation) -> Iterator[Text]:
    """Yield the warning of the evaluation if there is one."""
    if warning := evaluation.run.data.tags.get(tags.LEAKAGE):
        yield Text("Warning", [f"{warning[0].upper()}{warning[1:]}."])


def _tables(evaluation: _Evaluation) -> Iterator[Table]:
    names = {COMBINATIONS: "Combination of outputs", RUNTIMES: "Runtimes", MEMBERS_TABLE: "Members"}
    there = evaluation.artifacts("evaluate")
    for name, title in names.items():
        # Earlier versions did not log all of them.
        if name in there:
            yield Table(title, evaluation.logged.table(evaluation.runs["evaluate"], name))


def _figures(evaluation: _Evaluation) -> Iterator[Plot | Image]:
    """Yield the figures that were logged, in the order of `_PLOTS` and `_IMAGES`."""
    there = {stage: evaluation.artifacts(stage) for stage in ("activations", "prune", "evaluate")}
    for stage, name, title, note, draw in _PLOTS:
        if name in there[stage]:
            with evaluation.reading(stage, name) as content:
                figure = draw(content)
            yield Plot(title, f"{note} (run {evaluation.runs[stage]})", figure, content)
    yield _coupling(evaluation)
    yield from _learning_curves(evaluation)
    for stage, name, title, note in _IMAGES:
        if name in there[stage]:
            content = evaluation.logged.content(evaluation.runs[stage], name)
            yield Image(title, f"{note} (run {evaluation.runs[stage]})", content)


def _coupling(evaluation: _Evaluation) -> Plot:
    with evaluation.reading("group", GROUPS) as text:
        grouped = Grouped.from_json(text)
    with evaluation.reading("group", COUPLING) as content:
        matrix, _ = _matrix(content)
        figure = interactive_matrices.coupling_heatmap(matrix, grouped.class_names, grouped.groups, grouped.order)
    note = "Channels that the plans of both classes remove, classes in the order of a dendrogram"
    return Plot("Coupling", f"{note} (run {evaluation.runs['group']})", figure, content)


def _learning_curves(evaluation: _Evaluation) -> Iterator[Plot]:
    """Yield the learning curves if members were retrained."""
    if (retrain_run := evaluation.runs.get("retrain")) is None:
        return
    uri = evaluation.logged.client.tracking_uri
    table = curves([retrain_run], tracking_uri=uri)
    if table.empty:
        return
    # With a joint loss there is one accuracy of all classes together; without validation data there is only the loss.
    measure = next(name for name in ("balanced_accuracy", "accuracy", "train_loss") if name in table)
    figure = interactive.learning_curves(table, measure)
    where = "training" if measure == "train_loss" else "validation"
    note = f"{measure.replace('_', ' ').capitalize()} of each member on {where} data, until it was stopped"
    yield Plot("Learning curves", f"{note} (run {retrain_run})", figure, table.to_csv(index=False).encode())


def _matrix(content: bytes) -> tuple[np.ndarray, list[str]]:
    """Return a matrix and the names of its columns; two names may be the same."""
    text = io.StringIO(content.decode())
    names = next(csv.reader(text))
    return pd.read_csv(text, header=None).to_numpy(), names


def _heatmap(told: str) -> Callable[[bytes], go.Figure]:
    return lambda content: interactive_matrices.heatmap(*_matrix(content), told)


def _of_table(draw: Callable[[pd.DataFrame], go.Figure]) -> Callable[[bytes], go.Figure]:
    return lambda content: draw(table_of(content))


# An entry is stage, artifact, title, note and the function that draws the figure.
_PLOTS = (
    (
        "evaluate",
        MEMBERS_TABLE,
        "Accuracy and size",
        "A point a member, on the test split",
        _of_table(interactive.members),
    ),
    (
        "prune",
        LAYERS,
        "Widths",
        "Share of each site's channels that each member keeps",
        _of_table(interactive.widths),
    ),
    (
        *("evaluate", CONFUSION, "Confusion", "Test images by class and answer"),
        _heatmap("%{y}<br>answered %{x}<br>%{z} images"),
    ),
    (
        *("evaluate", GROUP_CONFUSION, "Confusion between groups", "Test images by group of class and answer"),
        _heatmap("%{y}<br>answered %{x}<br>%{z} images"),
    ),
    (
        *("activations", SIMILARITY, "Similarity", "Correlation of the classes' APoZ"),
        _heatmap("%{y}<br>%{x}<br>%{z:.3f}"),
    ),
)
# An entry is stage, artifact, title and note.
_IMAGES = (
    (
        "evaluate",
        CONFUSION_IN_GROUPS_FIGURE,
        "Confusion in groups",
        "Test images answered in their group, by class and answer",
    ),
    ("evaluate", RELIABILITY_FIGURE, "Reliability", "Accuracy by largest probability, before and after combination"),
)
