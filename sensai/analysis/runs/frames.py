"""Runs as one frame: the cache keeps this form, and the tables are made from it."""

from collections.abc import Sequence

import pandas as pd

from sensai.analysis.runs.queries import LoggedRun

COLUMNS = {
    **dict.fromkeys(("run_id", "experiment_id", "name", "status"), "str"),
    "start": "int64",
    "end": "Int64",
    "config": "str",
}
TAG, METRIC = "tags.", "metrics."


def run_frame(runs: Sequence[LoggedRun]) -> pd.DataFrame:
    """Return runs as a frame, newest first.

    Pages may shift while they are read and give a run twice. The last one counts.

    Returns:
        Columns run_id, experiment_id, name, status, start, end (ms since 1970), config (JSON), as `LoggedRun` has them; then by
        name `metrics.<name>` (float64) and `tags.<name>` (text), NaN where a run has none.
    """
    runs = list({run.run_id: run for run in runs}.values())
    alike = pd.DataFrame([run[: len(COLUMNS)] for run in runs], columns=list(COLUMNS)).astype(COLUMNS)
    texts = pd.DataFrame([run.tags for run in runs], index=alike.index, dtype="str")
    numbers = pd.DataFrame([run.metrics for run in runs], index=alike.index, dtype="float64")
    return _in_order(pd.concat([alike, texts.add_prefix(TAG), numbers.add_prefix(METRIC)], axis="columns"))


def updated(runs: pd.DataFrame, newer: pd.DataFrame) -> pd.DataFrame:
    """Return runs together with newer ones, which replace those with the same ids."""
    return _in_order(pd.concat([runs[~runs["run_id"].isin(newer["run_id"])], newer]))


def selected(runs: pd.DataFrame, which: pd.Series) -> pd.DataFrame:
    """Return some of the runs, without the tags and metrics that have a value in none of them."""
    if which.all():
        return runs
    some = runs[which].reset_index(drop=True)
    return some.drop(columns=[name for name in some.columns.difference(list(COLUMNS)) if some[name].isna().all()])


def tag(runs: pd.DataFrame, name: str) -> pd.Series:
    """Return a tag of each run, NaN where a run has none."""
    return runs.get(TAG + name, pd.Series(index=runs.index, dtype="str"))


def metric(runs: pd.DataFrame, name: str) -> pd.Series:
    """Return a metric of each run, NaN where a run has none."""
    return runs.get(METRIC + name, pd.Series(index=runs.index, dtype="float64"))


def metrics(runs: pd.DataFrame) -> pd.DataFrame:
    """Return all metrics, a column `metrics.<name>` each."""
    return runs[[name for name in runs.columns if name.startswith(METRIC)]]


def _in_order(runs: pd.DataFrame) -> pd.DataFrame:
    columns = [*COLUMNS, *runs.columns.difference(list(COLUMNS))]
    return runs[columns].sort_values(["start", "run_id"], ascending=[False, True], ignore_index=True)
