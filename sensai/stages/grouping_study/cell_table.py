"""Make the table of a study's cells, and the measures that its methods are compared by."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from mlflow.entities import Run as StoredRun

from sensai.analysis.differences import right_answers, right_in_group
from sensai.config import GroupingStudyConfig
from sensai.stages.grouping_study.design import CONTROL
from sensai.tracking import Store, tags


@dataclass(frozen=True)
class Measure:
    """A measure that cells are compared by.

    Attributes:
        name: its column in the table of cells.
        relevant: the smallest difference that would matter.
        cells: the cells that have it.
        right: bool (cells, N): the answers whose mean it is; None where it is exact, as FLOPs are.
    """

    name: str
    relevant: float
    cells: pd.DataFrame
    right: np.ndarray | None = None


def table_of(runs: list[StoredRun]) -> pd.DataFrame:
    """Return one row a cell: place, run, runs of prune and evaluate (empty where there is none), metrics."""
    rows = [
        {
            **json.loads(run.data.tags[tags.CELL]),
            "run_id": run.info.run_id,
            "prune_run": run.data.tags[f"{tags.UPSTREAM}prune"],
            "evaluate_run": run.data.tags.get(f"{tags.UPSTREAM}evaluate", ""),
            **run.data.metrics,
        }
        for run in runs
    ]
    return pd.DataFrame(rows).sort_values(["n_groups", "ratio", "method", "seed"], ignore_index=True)


def measures_of(cells: pd.DataFrame, config: GroupingStudyConfig, store: Store) -> Iterator[Measure]:
    """Return the measures that cells are compared by: FLOPs, and accuracy or, without training, separability of groups."""
    # A control has no groups, and its FLOPs are given.
    grouped = cells[cells["method"] != CONTROL]
    yield Measure("flops_share", config.relevant_flops, grouped)
    uri = store.client.tracking_uri
    if config.epochs:
        right = np.stack([right_answers(run_id, tracking_uri=uri) for run_id in cells["evaluate_run"]])
        yield Measure("accuracy", config.relevant_accuracy, cells, right)
    elif "separability" in grouped:
        right = np.stack([right_in_group(run_id, tracking_uri=uri) for run_id in grouped["prune_run"]])
        yield Measure("separability", config.relevant_accuracy, grouped, right)
