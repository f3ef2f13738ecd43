"""The page that compares runs side by side, from what they have logged."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow.entities import Run

from sensai.analysis import runs
from sensai.analysis.figures import interactive
from sensai.analysis.report.page import Part, Plot, Table, render_page
from sensai.analysis.report.page_inputs import Logged
from sensai.tracking import tags
from sensai.tracking.tracking_store import tracking_client

_CONFIG, _METRICS = "config.", "metrics."
_MEASURES = ("accuracy", "flops_max", "flops_total", "base_accuracy", "flops_base")


def render(run_ids: Sequence[str], tracking_uri: str) -> str:
    """Return the page on some runs, as HTML without references to other files or hosts.

    Args:
        run_ids: ids of any runs.
        tracking_uri: of the store that holds them.

    Raises:
        ValueError: an id names no run.
    """
    logged = Logged(tracking_client(tracking_uri))
    table = _row_a_run(runs.compare(run_ids, tracking_uri=tracking_uri))
    found = [logged.client.get_run(run_id) for run_id in table["run_id"]]
    links = logged.links(table["run_id"])
    metrics = table.columns[table.columns.str.startswith(_METRICS)]
    asked, came_out = table[table.columns.drop(metrics)], table[["run_id", "name", *metrics]]
    parts: list[Part] = [
        Table("What differs", _bare(asked), links=links),
        *_accuracies(found),
        Table("What came out", _bare(came_out), links=links),
    ]
    config = json.loads(found[0].data.tags.get(tags.CONFIG, "{}"))
    same = {name: value for name, value in config.items() if f"{_CONFIG}{name}" not in table}
    run_links = [logged.link(run.data.tags.get(tags.STAGE, ""), run.info.run_id) for run in found]
    return render_page(f"{len(found)} runs compared", parts, run_links, same)


def _row_a_run(compared: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `runs.compare` with a row a run, because the page sorts rows."""
    table = compared.T.rename_axis(index="run_id", columns=None).fillna(np.nan).infer_objects().reset_index()
    return table.assign(start=[f"{start:%Y-%m-%d %H:%M:%S}" for start in table["start"]])


def _bare(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns=lambda name: name.removeprefix(_CONFIG).removeprefix(_METRICS))


def _accuracies(found: Sequence[Run]) -> Iterator[Plot]:
    """Yield the plot of accuracy and FLOPs if some runs are evaluations of members."""
    rows = [_accuracy(run) for run in found if all(name in run.data.metrics for name in _MEASURES)]
    if not rows:
        return
    table = pd.DataFrame(rows)
    ambiguous = table.groupby("dataset")["digest"].transform("nunique") > 1
    table["data"] = table["dataset"].where(~ambiguous, table["dataset"] + " " + table["digest"].str[:8])
    table["front"] = _on_front(table)
    note = "A point an ensemble, on test data; the line is the front, of each data set by itself"
    figure = interactive.accuracies(table)
    yield Plot("Accuracy and FLOPs", note, figure, table.drop(columns="data").to_csv(index=False).encode())


def _accuracy(run: Run) -> dict[str, object]:
    return {
        "run_id": run.info.run_id,
        "name": run.info.run_name,
        "dataset": Path(run.data.tags.get(tags.DATASET, "")).name,
        "digest": run.data.tags.get(tags.DATA_DIGEST, ""),
        **{name: run.data.metrics[name] for name in _MEASURES},
    }


def _on_front(table: pd.DataFrame) -> "pd.Series[bool]":
    """Return True for each run that no other on the same data dominates.

    A run dominates if it is as accurate at fewer FLOPs of the largest member, or more accurate at as many.
    """
    ordered = table.sort_values(["flops_max", "accuracy"], ascending=[True, False], kind="stable")
    before = ordered.groupby("data")["accuracy"].transform(lambda accuracy: accuracy.cummax().shift(fill_value=-1.0))
    return ordered["accuracy"] > before
