"""The page that compares runs side by side, from what they have logged."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow.entities import Run

from sensai.analysis import runs
from sensai.analysis.figures import interactive
from sensai.analysis.report.column_words import ColumnWords, in_percent, words_for, written
from sensai.analysis.report.page import Number, Opening, Plot, Table, render_page
from sensai.analysis.report.page_inputs import Logged
from sensai.analysis.rounding import in_short
from sensai.tracking import tags
from sensai.tracking.tracking_store import tracking_client

_CONFIG, _METRICS = "config.", "metrics."
_MEASURES = ("accuracy", "flops_max", "flops_total", "base_accuracy", "flops_base")
# The measures that are set side by side first, where runs have them.
_MAIN = (
    *(
        "accuracy",
        "accuracy_drop",
        "val_accuracy",
        "calibrated_val_accuracy",
        "flops_speedup",
        "flops_max",
        "flops_total",
    ),
    *("latency_base_ms", "latency_member_max_ms", "latency_ensemble_ms"),
)
# Metric, what its best value is called, 1 where large values are good and -1 where small ones are, how it is shown.
_BEST = (
    ("accuracy", "Highest accuracy on test images", 1, in_percent),
    ("flops_max", "Fewest FLOPs of the largest member", -1, in_short),
    ("latency_ensemble_ms", "Fastest ensemble", -1, "{:.3g} ms".format),
)
_SHORT_ID = 8
# The opening names so many parameters.
_MOST_NAMES = 6


def render(run_ids: Sequence[str], tracking_uri: str, parameters: Mapping[str, str]) -> str:
    """Return the page on some runs, as HTML without references to other files or hosts.

    Args:
        run_ids: ids of any runs.
        tracking_uri: of the store that holds them.
        parameters: name of a parameter -> its meaning.

    Raises:
        ValueError: an id names no run.
    """
    logged = Logged(tracking_client(tracking_uri))
    compared = runs.compare(run_ids, tracking_uri=tracking_uri)
    table = _row_a_run(compared)
    found = [logged.client.get_run(run_id) for run_id in table["run_id"]]
    links = logged.links(table["run_id"])
    metrics = [name for name in table.columns if name.startswith(_METRICS)]
    main = [f"{_METRICS}{name}" for name in _MAIN if f"{_METRICS}{name}" in metrics]
    reading = "One row per run. Parameters that are the same in all runs stand at the end of the page."
    parts = [
        Table("What differs", reading, table[table.columns.drop(metrics)], links),
        Table(
            "What came out",
            "One row per run, with the measures that matter most.",
            table[["name", "run_id", *main]],
            links,
        ),
        _all_measures(compared),
    ]
    config = json.loads(found[0].data.tags.get(tags.CONFIG, "{}"))
    same = {name: value for name, value in config.items() if f"{_CONFIG}{name}" not in table}
    run_links = [logged.link(run.data.tags.get(tags.STAGE, ""), run.info.run_id) for run in found]
    return render_page(
        f"{len(found)} runs side by side", _shared(found), _opening(found, table), parts, run_links, same, parameters
    )


def _shared(found: Sequence[Run]) -> list[str]:
    """Return the data set and the architecture that all runs share."""
    values = [{Path(run.data.tags.get(name, "")).name for run in found} for name in (tags.DATASET, tags.ARCH)]
    return [value for each in values if len(each) == 1 for value in each]


def _opening(found: Sequence[Run], table: pd.DataFrame) -> Opening:
    differing = [name.removeprefix(_CONFIG) for name in table.columns if name.startswith(_CONFIG)]
    some = ", ".join(differing[:_MOST_NAMES]) + (", ..." if len(differing) > _MOST_NAMES else "")
    sentence = f"{len(found)} runs that differ in {len(differing)} of their parameters{f': {some}' if some else ''}."
    return Opening("At a glance", [sentence], numbers=list(_numbers(table)), plot=_accuracies(found))


def _numbers(table: pd.DataFrame) -> Iterator[Number]:
    """Yield the best value of three measures, each with the run that has it, where there is one."""
    for name, label, direction, shown in _BEST:
        values = table.get(f"{_METRICS}{name}", pd.Series(dtype="float64")).dropna()
        if len(values):
            best = (direction * values).argmax()
            yield Number(label, shown(values.iloc[best]), str(table["name"].loc[values.index].iloc[best]))


def _row_a_run(compared: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `runs.compare` with one row per run, its name first, because the page sorts rows."""
    table = compared.T.rename_axis(index="run_id", columns=None).fillna(np.nan).infer_objects().reset_index()
    table = table.assign(start=[f"{start:%Y-%m-%d %H:%M:%S}" for start in table["start"]])
    return table[["name", "run_id", *table.columns.drop(["name", "run_id"])]]


def _all_measures(compared: pd.DataFrame) -> Table:
    """Return the metrics of `runs.compare` with one row per measure, because there are far more measures than runs."""
    full = compared[compared.index.str.startswith(_METRICS)].rename(index=lambda name: name.removeprefix(_METRICS))
    words = [words_for(name) for name in full.index]
    columns = {f"run {str(run_id)[:_SHORT_ID]}": map(_in_words, full[run_id], words) for run_id in full}
    shown = pd.DataFrame({"measure": [each.heading for each in words], **columns, "logged": full.index}, dtype="str")
    return Table(
        "All measures",
        "One row per measure, one column per run.",
        shown,
        full=full.rename_axis("measure").reset_index(),
    )


def _in_words(value: float, words: ColumnWords) -> str:
    return "" if pd.isna(value) else written(value, words.unit)


def _accuracies(found: Sequence[Run]) -> Plot | None:
    """Return the plot of accuracy and FLOPs; None: no run is an evaluation of members."""
    rows = [_accuracy(run) for run in found if all(name in run.data.metrics for name in _MEASURES)]
    if not rows:
        return None
    table = pd.DataFrame(rows)
    ambiguous = table.groupby("dataset")["digest"].transform("nunique") > 1
    table["data"] = table["dataset"].where(~ambiguous, table["dataset"] + " " + table["digest"].str[:8])
    table["front"] = _on_front(table)
    reading = (
        "One mark per ensemble: left is smaller, up is more accurate. No other on the same data beats those on the line; the "
        "star is the base model."
    )
    figure = interactive.accuracies(table)
    return Plot("Accuracy and FLOPs", reading, [figure], table.drop(columns="data").to_csv(index=False).encode())


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
