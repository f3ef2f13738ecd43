"""The page on an evaluation, from what was logged."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from analysis import interactive, tags
from analysis.artifacts import downloaded
from analysis.comparison import accuracy_difference, base_difference
from analysis.report.page import Image, Plot, RunLink, Table, render_page
from analysis.runs import read_table

# Row of the summary -> the metrics of an evaluate run that stand in it, in the order of `_SUMMARY_COLUMNS`. Of a single
# member accuracies are not comparable.
_SUMMARY_ROWS = {
    "base model": ("base_accuracy", "base_top5_accuracy", "params_base", "flops_base", "latency_base_ms"),
    "largest member": (None, None, "params_max", "flops_max", "latency_member_max_ms"),
    "ensemble": ("accuracy", "top5_accuracy", "params_total", "flops_total", "latency_ensemble_ms"),
}
_SUMMARY_COLUMNS = ("accuracy", "top5_accuracy", "params", "flops", "latency_ms")


def summary_table(metrics: Mapping[str, float], control: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Base model against ensemble: accuracy (fractions of the test split), params, FLOPs, latency (ms at batch 1).

    Args:
        metrics: of an evaluate run.
        control: of the evaluate run of the control, one K-way network pruned to the FLOPs of the largest member.

    Returns:
        Rows `base model`, `largest member`, `ensemble` and, where given, `control`; columns accuracy, top-5, params, flops,
        latency_ms. Of a single member accuracies are not comparable and left empty.
    """
    rows = {name: [metrics.get(metric or "") for metric in row] for name, row in _SUMMARY_ROWS.items()}
    if control is not None:
        rows["control"] = [control.get(metric or "") for metric in _SUMMARY_ROWS["ensemble"]]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(_SUMMARY_COLUMNS), dtype="float64")
    table.index.name = "network"
    return pd.DataFrame(
        {
            "accuracy": table["accuracy"].map("{:.4f}".format, na_action="ignore"),
            "top5_accuracy": table["top5_accuracy"].map("{:.4f}".format, na_action="ignore"),
            "params": table["params"].map("{:,.0f}".format, na_action="ignore"),
            "flops": table["flops"].map("{:,.0f}".format, na_action="ignore"),
            "latency_ms": table["latency_ms"].map("{:.3f}".format, na_action="ignore"),
        }
    ).fillna("")


def differences_table(evaluate_run: str, tracking_uri: str, control_run: str = "") -> pd.DataFrame:
    """What the ensemble gains in accuracy on the same test images, with paired 95 % intervals, as fractions.

    Args:
        evaluate_run: of the ensemble.
        tracking_uri: of the store that holds it.
        control_run: the evaluate run of the control, if there is one.

    Returns:
        Rows `ensemble - base model` and, where given, `ensemble - control`; columns difference, 95 % interval.

    Raises:
        IncomparableError: a run without answers, or a control on other data.
    """
    found = {"ensemble - base model": base_difference(evaluate_run, tracking_uri=tracking_uri)}
    if control_run:
        found["ensemble - control"] = accuracy_difference(evaluate_run, control_run, tracking_uri=tracking_uri)
    rows = {
        name: {"difference": f"{each.difference:+.4f}", "95 % interval": f"{each.low:+.4f} to {each.high:+.4f}"}
        for name, each in found.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("accuracy")


@dataclass(frozen=True)
class _Logged:
    """What the runs of an evaluation have logged.

    Attributes:
        client: of the store.
        run: the evaluation.
        runs: stage -> run id, of it and of all that it stands on.
    """

    client: MlflowClient
    run: Run
    runs: Mapping[str, str]

    @classmethod
    def of(cls, evaluate_run: str, tracking_uri: str) -> "_Logged":
        client = MlflowClient(tracking_uri)
        run = client.get_run(evaluate_run)
        upstream = {
            key.removeprefix(tags.UPSTREAM): value
            for key, value in run.data.tags.items()
            if key.startswith(tags.UPSTREAM)
        }
        return cls(client, run, upstream | {"evaluate": evaluate_run})

    def artifacts(self, stage: str) -> set[str]:
        """The names of what a stage's run has."""
        return {each.path for each in self.client.list_artifacts(self.runs[stage])}

    def content(self, stage: str, name: str) -> bytes:
        """One of them."""
        with downloaded(self.runs[stage], name, self.client.tracking_uri) as file:
            return file.read_bytes()

    def link(self, stage: str, run_id: str) -> RunLink:
        """To a run, where a server shows it."""
        uri = self.client.tracking_uri
        served = uri.startswith("http")
        url = f"{uri}/#/experiments/{self.run.info.experiment_id}/runs/{run_id}" if served else ""
        return RunLink(stage, run_id, url)


def render(evaluate_run: str, tracking_uri: str, control_run: str = "") -> str:
    """The page on one evaluate run, as HTML without references to other files or hosts.

    Args:
        evaluate_run: what the page is about.
        tracking_uri: of the store that holds it.
        control_run: the evaluate run of the control, if there is one.

    Raises:
        IncomparableError: a run without answers, or a control on other data.
    """
    logged = _Logged.of(evaluate_run, tracking_uri)
    control = logged.client.get_run(control_run).data.metrics if control_run else None
    tables = [
        Table("Base model and ensemble", summary_table(logged.run.data.metrics, control).reset_index()),
        Table("Differences in accuracy", differences_table(evaluate_run, tracking_uri, control_run).reset_index()),
        *_tables(logged),
    ]
    links = [logged.link(stage, run_id) for stage, run_id in logged.runs.items()]
    if control_run:
        links.append(logged.link("evaluate of the control", control_run))
    config = json.loads(logged.run.data.tags.get(tags.CONFIG, "{}"))
    return render_page(logged.run.info.run_name, [*tables, *_figures(logged)], links, config)


def _tables(logged: _Logged) -> Iterator[Table]:
    names = {"combine.csv": "Combination of outputs", "runtimes.csv": "Runtimes", "members.csv": "Members"}
    there = logged.artifacts("evaluate")
    for name, title in names.items():
        # Not all were logged by earlier versions.
        if name in there:
            yield Table(title, read_table(io.BytesIO(logged.content("evaluate", name))))


def _figures(logged: _Logged) -> Iterator[Plot | Image]:
    """In the order of `_PLOTS` and `_IMAGES`, those that were logged."""
    there = {stage: logged.artifacts(stage) for stage in ("activations", "prune", "evaluate")}
    for stage, name, title, note, draw in _PLOTS:
        if name in there[stage]:
            content = logged.content(stage, name)
            yield Plot(title, f"{note} (run {logged.runs[stage]})", draw(content), content)
    yield _coupling(logged)
    for stage, name, title, note in _IMAGES:
        if name in there[stage]:
            yield Image(title, f"{note} (run {logged.runs[stage]})", logged.content(stage, name))


def _coupling(logged: _Logged) -> Plot:
    content = logged.content("group", "coupling.csv")
    matrix, _ = _matrix(content)
    grouped = json.loads(logged.content("group", "groups.json"))
    # Before version 3 of the stage the order was not logged.
    order = grouped.get("order", range(len(matrix)))
    figure = interactive.coupling_heatmap(matrix, grouped["class_names"], grouped["groups"], order)
    note = "Channels that the plans of both classes remove, classes in the order of a dendrogram"
    return Plot("Coupling", f"{note} (run {logged.runs['group']})", figure, content)


def _matrix(content: bytes) -> tuple[np.ndarray, list[str]]:
    """A matrix and the names of its columns, of which two may be the same."""
    text = io.StringIO(content.decode())
    names = next(csv.reader(text))
    return pd.read_csv(text, header=None).to_numpy(), names


def _heatmap(told: str) -> Callable[[bytes], go.Figure]:
    return lambda content: interactive.heatmap(*_matrix(content), told)


def _of_table(draw: Callable[[pd.DataFrame], go.Figure]) -> Callable[[bytes], go.Figure]:
    return lambda content: draw(read_table(io.BytesIO(content)))


# Stage, artifact, title, what it shows, and what draws it.
_PLOTS = (
    (
        "evaluate",
        "members.csv",
        "Accuracy and size",
        "A point a member, on the test split",
        _of_table(interactive.members),
    ),
    (
        "prune",
        "layers.csv",
        "Widths",
        "Share of each site's channels that each member keeps",
        _of_table(interactive.widths),
    ),
    (
        *("evaluate", "confusion.csv", "Confusion", "Test images by class and answer"),
        _heatmap("%{y}<br>answered %{x}<br>%{z} images"),
    ),
    (
        *("evaluate", "confusion_groups.csv", "Confusion between groups", "Test images by group of class and answer"),
        _heatmap("%{y}<br>answered %{x}<br>%{z} images"),
    ),
    (
        *("activations", "class_similarity.csv", "Similarity", "Correlation of the classes' APoZ"),
        _heatmap("%{y}<br>%{x}<br>%{z:.3f}"),
    ),
)
# Stage, artifact, title, what it shows.
_IMAGES = (
    (
        "evaluate",
        "confusion_in_groups.png",
        "Confusion in groups",
        "Test images answered in their group, by class and answer",
    ),
    ("evaluate", "reliability.png", "Reliability", "Accuracy by largest probability, before and after combination"),
)
