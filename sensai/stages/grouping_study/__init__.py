"""grouping_study: Test whether it matters how the classes are grouped.

Every method, number of groups and ratio with several seeds, each a cell (`cells`); then, for every pair of methods, what
differs in accuracy and in the FLOPs of the largest member, or what it would take to know. Logs cells.csv, summary.csv,
comparisons.csv and a figure of each measure.
"""

import logging

import pandas as pd
from mlflow.entities import Run as StoredRun

from sensai.analysis import grouping_results
from sensai.analysis.figures import static
from sensai.config import GroupingStudyConfig
from sensai.data.dataset import Dataset
from sensai.errors import InputError, UnreachableTargetError
from sensai.pipeline.closing import Findings
from sensai.pipeline.context import Context
from sensai.pipeline.stage import Stage
from sensai.stages import activations, evaluate
from sensai.stages.grouping_study.cell_table import measures_of, table_of
from sensai.stages.grouping_study.cells import run_cells
from sensai.stages.grouping_study.design import cells_of, controls_of, logged_cells
from sensai.tracking import Store
from sensai.tracking.artifact_names import CELLS, COMPARISONS, measure_figure, measure_summary

_log = logging.getLogger(__name__)


def _execute(config: GroupingStudyConfig, context: Context) -> None:
    cells = table_of(logged_cells(config, context.session) if config.source == "logged" else _computed(config, context))
    context.run.log_frame(cells, CELLS)
    comparisons = []
    for measure in measures_of(cells, config, context.store):
        summary = grouping_results.summary(measure.cells, measure.name, measure.right)
        compared = grouping_results.compare(measure.cells, measure.name, measure.relevant, measure.right)
        context.run.log_frame(summary, measure_summary(measure.name))
        context.run.log_figure(static.study(measure.cells, summary, measure.name), measure_figure(measure.name))
        comparisons.append(compared)
    table = pd.concat(comparisons, ignore_index=True)
    context.run.log_frame(table, COMPARISONS)
    context.run.log_metrics({"cells": len(cells), "comparisons": len(table)})


def _computed(config: GroupingStudyConfig, context: Context) -> list[StoredRun]:
    """Return the run of every cell, computed where it is not there yet."""
    # What cannot be studied is refused before anything is trained.
    _check(config, context.data)
    runs = run_cells(list(cells_of(config, context.session)), config, context)
    if config.epochs and config.control:
        try:
            runs += run_cells(list(controls_of(config, table_of(runs), context.session)), config, context)
        # A network of K outputs may not get as small as one of fewer.
        except UnreachableTargetError as error:
            _log.warning("no control: %s", error)
    return runs


def _check(config: GroupingStudyConfig, data: Dataset) -> None:
    classes = len(data.class_names)
    if max(config.group_counts) > classes:
        raise InputError(f"group_counts={config.text('group_counts')!r}: there are only {classes} classes")
    if config.epochs:
        evaluate.check(config, data)


def _title(config: GroupingStudyConfig) -> str:
    trained = f"epochs={config.epochs}" if config.epochs else "not retrained"
    return f"{config.text('methods')} in {config.text('group_counts')} groups, {trained}"


def found(store: Store, run_id: str) -> Findings:
    """Return the comparisons of a run."""
    with store.downloaded(run_id, COMPARISONS) as file:
        return Findings([pd.read_csv(file).round(4).to_string(index=False)])


stage = Stage(
    version=2,
    config=GroupingStudyConfig,
    previous=activations.stage,
    execute=_execute,
    found=found,
    title=_title,
    inputs=lambda config, session: (
        {"cells": sorted(run.info.run_id for run in logged_cells(config, session))} if config.source == "logged" else {}
    ),
)
run = stage.run
