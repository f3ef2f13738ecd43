"""grouping_study: whether it matters how the classes are grouped. Every method, number of groups and ratio with several seeds,
each a cell (`cells`); then, for every pair of methods, what differs in accuracy and in the FLOPs of the largest member, or
what it would take to know. Logs cells.csv, summary.csv, comparisons.csv and a figure of each measure.
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

from sensai.analysis import grouping_results
from sensai.analysis.differences import right_answers, right_in_group
from sensai.analysis.figures import static
from sensai.config import GroupingStudyConfig
from sensai.config.parameter_types import parse_counts, parse_methods, parse_ratios
from sensai.errors import InputError, UnreachableTargetError
from sensai.pipeline.context import dataset_of
from sensai.pipeline.stage import Context, Stage
from sensai.stages import activations, evaluate, group, prune, retrain
from sensai.stages.grouping_study.cells import STAGE, Cell, Place, run_cells
from sensai.tracking import Store, tags
from sensai.tracking.artifact_names import CELLS, COMPARISONS, measure_figure, measure_summary

_log = logging.getLogger(__name__)
_CONTROL = "control"


@dataclass(frozen=True)
class _Measure:
    """What cells are compared by.

    Attributes:
        name: its column in the table of cells.
        relevant: the smallest difference that would matter.
        cells: those that have it.
        right: bool (cells, N): the answers that it is the mean of; None where it is exact, as FLOPs are.
    """

    name: str
    relevant: float
    cells: pd.DataFrame
    right: np.ndarray | None = None


def _execute(config: GroupingStudyConfig, context: Context) -> None:
    cells = _table(_logged(config) if config.source == "logged" else _computed(config, context))
    context.run.log_frame(cells, CELLS)
    comparisons = []
    for measure in _measures(cells, config, context.store):
        summary = grouping_results.summary(measure.cells, measure.name, measure.right)
        compared = grouping_results.compare(measure.cells, measure.name, measure.relevant, measure.right)
        context.run.log_frame(summary, measure_summary(measure.name))
        context.run.log_figure(static.study(measure.cells, summary, measure.name), measure_figure(measure.name))
        comparisons.append(compared)
    table = pd.concat(comparisons, ignore_index=True)
    context.run.log_frame(table, COMPARISONS)
    context.run.log_metrics({"cells": len(cells), "comparisons": len(table)})
    _log.info("%s", table.round(4).to_string(index=False))


def _computed(config: GroupingStudyConfig, context: Context) -> list[StoredRun]:
    """The run of every cell, computed where it is not there yet."""
    # Better refused now than after all the training.
    _check(config)
    runs = run_cells(list(_cells(config)), config, context)
    if config.epochs and config.control:
        try:
            runs += run_cells(list(_controls(config, _table(runs))), config, context)
        # A network of K outputs may not get as small as one of fewer.
        except UnreachableTargetError as error:
            _log.warning("no control: %s", error)
    return runs


def _check(config: GroupingStudyConfig) -> None:
    classes = len(dataset_of(config).class_names)
    if max(parse_counts(config.group_counts)) > classes:
        raise InputError(f"group_counts={config.group_counts!r}: there are only {classes} classes")
    if config.epochs:
        evaluate.check(config)


def _cells(config: GroupingStudyConfig) -> Iterator[Cell]:
    study = _digest(config)
    for place in _places(config, parse_methods(config.methods)):
        own = {"method": place.method, "n_groups": place.n_groups, "ratio": place.ratio, "seed": place.seed}
        yield Cell(place, config.cell(**own), study)


def _controls(config: GroupingStudyConfig, cells: pd.DataFrame) -> Iterator[Cell]:
    """One K-way network for every combination and seed, with as many FLOPs as the largest member of any of its cells."""
    study = _digest(config)
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
        yield Cell(place, config.cell(**own), study)


def _places(config: GroupingStudyConfig, methods: list[str]) -> Iterator[Place]:
    seeds = range(config.seed, config.seed + config.repeats)
    for each in product(methods, parse_counts(config.group_counts), parse_ratios(config.ratios), seeds):
        yield Place(*each)


def _logged(config: GroupingStudyConfig) -> list[StoredRun]:
    """The cells of the store that differ from this study's in nothing but the seed.

    Raises:
        InputError: there are none.
    """
    methods = [*parse_methods(config.methods), _CONTROL]
    wanted = set(product(methods, parse_counts(config.group_counts), parse_ratios(config.ratios)))
    found = {}
    # Of a cell that was computed more than once, the newest.
    for run in reversed(Store.connect().tagged(STAGE, tags.STUDY, _digest(config))):
        place = Place(**json.loads(run.data.tags[tags.CELL]))
        if (place.method, place.n_groups, place.ratio) in wanted:
            found[place] = run
    if not found:
        raise InputError("source='logged': the store has no cell with these parameters")
    return list(found.values())


def _digest(config: GroupingStudyConfig) -> str:
    """Digest of what all cells have in common."""
    before: Stage[Any] = activations.stage
    versions = [[stage.name, stage.version] for stage in (group.stage, prune.stage, retrain.stage, evaluate.stage)]
    content: list[Any] = [before.fingerprint(config.upstream(before.config)), versions, config.shared_parameters()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _table(runs: list[StoredRun]) -> pd.DataFrame:
    """One row a cell: its place, its run, those of prune and of the evaluation (empty where there is none), its metrics."""
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
    # The control has the FLOPs that it was given, and no groups.
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
    inputs=lambda config: (
        {"cells": sorted(run.info.run_id for run in _logged(config))} if config.source == "logged" else {}
    ),
)
run = stage.run
