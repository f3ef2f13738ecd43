"""grouping_study: whether it matters how the classes are grouped. Tries every method, number of groups and ratio with several
seeds, each a cell; then compares every pair of methods in accuracy and in the FLOPs of the largest member, or says what it
would take to know. Logs cells.csv, comparisons.csv, and of each measure summary_<measure>.csv and a figure.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from mlflow.entities import Run as StoredRun

from sensai.analysis import grouping_results, plots
from sensai.analysis.differences import right_answers, right_in_group
from sensai.config import GroupingStudyConfig
from sensai.config.parameter_types import parse_counts, parse_methods, parse_ratios
from sensai.data.dataset import Dataset
from sensai.errors import InputError, UnreachableTargetError
from sensai.pipeline.context import Context
from sensai.pipeline.session import Session
from sensai.pipeline.stage import Stage
from sensai.stages import activations, evaluate, group, prune, retrain
from sensai.stages.grouping_study.cells import STAGE, Cell, Place, run_cells
from sensai.tracking import Store, tags

_log = logging.getLogger(__name__)
_CONTROL = "control"


@dataclass(frozen=True)
class _Measure:
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


def _execute(config: GroupingStudyConfig, context: Context) -> None:
    cells = _table(_logged(config, context.session) if config.source == "logged" else _computed(config, context))
    context.run.log_frame(cells, "cells.csv")
    comparisons = []
    for measure in _measures(cells, config, context.store):
        summary = grouping_results.summary(measure.cells, measure.name, measure.right)
        compared = grouping_results.compare(measure.cells, measure.name, measure.relevant, measure.right)
        context.run.log_frame(summary, f"summary_{measure.name}.csv")
        context.run.log_figure(plots.study(measure.cells, summary, measure.name), f"{measure.name}.png")
        comparisons.append(compared)
    table = pd.concat(comparisons, ignore_index=True)
    context.run.log_frame(table, "comparisons.csv")
    context.run.log_metrics({"cells": len(cells), "comparisons": len(table)})
    _log.info("%s", table.round(4).to_string(index=False))


def _computed(config: GroupingStudyConfig, context: Context) -> list[StoredRun]:
    """Return the run of every cell, computed where it is not there yet."""
    # What cannot be studied is refused before anything is trained.
    _check(config, context.data)
    study = _digest(config, context.session)
    runs = run_cells(list(_cells(config, study, context.session)), config, context)
    if config.epochs and config.control:
        try:
            controls = list(_controls(config, _table(runs), study, context.session))
            runs += run_cells(controls, config, context)
        # A network of K outputs may not get as small as one of fewer.
        except UnreachableTargetError as error:
            _log.warning("no control: %s", error)
    return runs


def _check(config: GroupingStudyConfig, data: Dataset) -> None:
    classes = len(data.class_names)
    if max(parse_counts(config.group_counts)) > classes:
        raise InputError(f"group_counts={config.group_counts!r}: there are only {classes} classes")
    if config.epochs:
        evaluate.check(config, data)


def _cells(config: GroupingStudyConfig, study: str, session: Session) -> Iterator[Cell]:
    for place in _places(config, parse_methods(config.methods)):
        own = {"method": place.method, "n_groups": place.n_groups, "ratio": place.ratio, "seed": place.seed}
        yield Cell.at(place, config.cell(**own), study, session)


def _controls(config: GroupingStudyConfig, cells: pd.DataFrame, study: str, session: Session) -> Iterator[Cell]:
    """Return a K-way network for every combination and seed, with the FLOPs of the largest member of any of its cells."""
    shares = cells.groupby(["n_groups", "ratio"])["flops_share"].max()
    for place in _places(config, [_CONTROL]):
        own = {
            "method": "random",
            "n_groups": 1,
            "ratio": place.ratio,
            "seed": place.seed,
            "policy": "ratio",
            "target_flops": float(shares[place.n_groups, place.ratio]),
        }
        yield Cell.at(place, config.cell(**own), study, session)


def _places(config: GroupingStudyConfig, methods: list[str]) -> Iterator[Place]:
    seeds = range(config.seed, config.seed + config.repeats)
    for each in product(methods, parse_counts(config.group_counts), parse_ratios(config.ratios), seeds):
        yield Place(*each)


def _logged(config: GroupingStudyConfig, session: Session) -> list[StoredRun]:
    """Return the cells of the store that differ from this study's in nothing but the seed.

    Raises:
        InputError: there are none.
    """
    methods = [*parse_methods(config.methods), _CONTROL]
    wanted = set(product(methods, parse_counts(config.group_counts), parse_ratios(config.ratios)))
    found = {}
    # The newest comes last and replaces older runs of its cell.
    for run in reversed(session.store.tagged(STAGE, tags.STUDY, _digest(config, session))):
        place = Place(**json.loads(run.data.tags[tags.CELL]))
        if (place.method, place.n_groups, place.ratio) in wanted:
            found[place] = run
    if not found:
        raise InputError("source='logged': the store has no cell with these parameters")
    return list(found.values())


def _digest(config: GroupingStudyConfig, session: Session) -> str:
    """Return the digest of what all cells have in common."""
    before: Stage[Any] = activations.stage
    versions = [[stage.name, stage.version] for stage in (group.stage, prune.stage, retrain.stage, evaluate.stage)]
    upstream = before.fingerprint(config.upstream(before.config), session)
    content: list[Any] = [upstream, versions, config.shared_parameters()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _table(runs: list[StoredRun]) -> pd.DataFrame:
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


def _measures(cells: pd.DataFrame, config: GroupingStudyConfig, store: Store) -> Iterator[_Measure]:
    # A control has no groups, and its FLOPs are given.
    grouped = cells[cells["method"] != _CONTROL]
    yield _Measure("flops_share", config.relevant_flops, grouped)
    uri = store.client.tracking_uri
    if config.epochs:
        right = np.stack([right_answers(run_id, tracking_uri=uri) for run_id in cells["evaluate_run"]])
        yield _Measure("accuracy", config.relevant_accuracy, cells, right)
    elif "separability" in grouped:
        right = np.stack([right_in_group(run_id, tracking_uri=uri) for run_id in grouped["prune_run"]])
        yield _Measure("separability", config.relevant_accuracy, grouped, right)


def _title(config: GroupingStudyConfig) -> str:
    trained = f"epochs={config.epochs}" if config.epochs else "not retrained"
    return f"{config.methods} in {config.group_counts} groups, {trained}"


stage = Stage(
    version=2,
    config=GroupingStudyConfig,
    previous=activations.stage,
    execute=_execute,
    title=_title,
    inputs=lambda config, session: (
        {"cells": sorted(run.info.run_id for run in _logged(config, session))} if config.source == "logged" else {}
    ),
)
run = stage.run
