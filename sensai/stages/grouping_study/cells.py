"""Run the cells of a study: each is one way to group the classes with one seed.

Workers train cells side by side, each a process. Cells are evaluated one after another, since evaluate measures times.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlflow.entities import Run as StoredRun
from tqdm import tqdm

from sensai.cluster.cores import deal, pinned
from sensai.config import EvaluateConfig, GroupingStudyConfig
from sensai.errors import InputError, UnreachableTargetError
from sensai.pipeline.context import Context
from sensai.pipeline.devices import worker_devices
from sensai.pipeline.session import Session
from sensai.pipeline.stage import Stage
from sensai.pipeline.study_runs import (
    Candidate,
    StudyRun,
    begin_study_run,
    carried,
    continue_study_run,
    open_study_run,
)
from sensai.stages import evaluate, prune, retrain
from sensai.tracking import Store, tags
from sensai.training.backends.local import in_processes
from sensai.training.workers import WorkerLostError

STAGE = "cell"
# Stage -> the name of a metric there -> its name on the cell's run.
_CARRIED = {
    "group": {"coupling_within": "coupling_within"},
    "prune": {
        "flops_max": "flops_max",
        "flops_total": "flops_total",
        "flops_base": "flops_base",
        "val_in_group_accuracy": "separability",
    },
    "retrain": {"val_accuracy": "val_accuracy", "seconds": "seconds"},
    "evaluate": {name: name for name in ("accuracy", "in_group_accuracy", "none_accuracy")},
}


@dataclass(frozen=True)
class Place:
    """The place of a cell in the study's tables.

    Attributes:
        method: by which classes are grouped, or `control`.
        n_groups: the numbers that are compared; the control's own number is 1.
        ratio: the ratios that are compared.
        seed: of the repeat.
    """

    method: str
    n_groups: int
    ratio: float
    seed: int


@dataclass(frozen=True)
class Cell:
    """One way to group the classes, with one seed.

    Attributes:
        place: in the study's tables.
        config: of its last stage.
        study: digest of what all cells have in common.
        fingerprint: digest of its place and of all that its result depends on.
        training: digest of all that its training depends on; cells of several places may share one.
    """

    place: Place
    config: EvaluateConfig
    study: str
    fingerprint: str
    training: str

    @classmethod
    def at(cls, place: Place, config: EvaluateConfig, study: str, session: Session) -> "Cell":
        """Return the cell of a place, with its fingerprints."""
        trained, last = (stage.fingerprint(config.upstream(stage.config), session) for stage in _stages(config))
        content = json.dumps([asdict(place), last], sort_keys=True)
        return cls(place, config, study, hashlib.sha256(content.encode()).hexdigest(), trained)

    @property
    def title(self) -> str:
        """Return the name of its run."""
        place = self.place
        return f"cell {place.method}, {place.n_groups} groups, ratio={place.ratio:g}, seed={place.seed}"

    @property
    def candidate(self) -> Candidate:
        """Return the cell as a run of the study."""
        own = {tags.FINGERPRINT: self.fingerprint, tags.CELL: json.dumps(asdict(self.place))}
        return Candidate(STAGE, self.title, self.config, asdict(self.place), {tags.STUDY: self.study}, own)

    @property
    def trained(self) -> Stage[Any]:
        """Return the stage that workers bring it to."""
        return _stages(self.config)[0]

    @property
    def last(self) -> Stage[Any]:
        """Return its last stage."""
        return _stages(self.config)[1]

    def stage_config(self, stage: Stage[Any], **more: object) -> Any:
        """Return the stage's part of the parameters."""
        return self.config.upstream(stage.config).model_copy(update=more)


def _stages(config: EvaluateConfig) -> tuple[Stage[Any], Stage[Any]]:
    """Return the stage that workers bring a cell to, and its last one: a cell without training is not evaluated."""
    return (retrain.stage, evaluate.stage) if config.epochs else (prune.stage, prune.stage)


@dataclass(frozen=True)
class _Worker:
    """The cells that one process trains one after another.

    Attributes:
        number: of the worker.
        cells: in their order.
        parameters: the worker's own, where cells are trained.
        threads: of every library.
        parent: run that those of cells are nested below.
    """

    number: int
    cells: Sequence[Cell]
    parameters: dict[str, Any]
    threads: int
    parent: str


def run_cells(cells: Sequence[Cell], config: GroupingStudyConfig, context: Context) -> list[StoredRun]:
    """Return the finished run of every cell: one from the store, or a new one.

    Raises:
        UnreachableTargetError: all cells that failed did so for a FLOPs target.
        InputError: cells failed, which are named when all others are finished, or a worker was killed.
    """
    found = {} if config.force else _finished(cells, context.store)
    missing = [cell for cell in cells if cell not in found]
    begun, failures = _train(missing, config, context) if missing else ({}, [])
    trained = {cell.training for cell in begun}
    for cell in tqdm([each for each in missing if each.training in trained], desc="grouping_study", unit="cell"):
        if cell in begun:
            opened = continue_study_run(cell.candidate, context.session, begun[cell])
        else:
            opened = open_study_run(cell.candidate, context.session, context.parent)
        with opened as run:
            _finish(cell, run)
        found[cell] = run.run.id
    if failures:
        unreachable = all(isinstance(failure, UnreachableTargetError) for failure in failures)
        raise (UnreachableTargetError if unreachable else InputError)("; ".join(map(str, failures)))
    return [context.store.client.get_run(found[cell]) for cell in cells]


def _finished(cells: Sequence[Cell], store: Store) -> dict[Cell, str]:
    found = {cell: store.find(STAGE, cell.fingerprint) for cell in cells}
    return {cell: run.info.run_id for cell, run in found.items() if run is not None}


def _train(
    cells: Sequence[Cell], config: GroupingStudyConfig, context: Context
) -> tuple[dict[Cell, str], list[InputError]]:
    """Train the first of the cells that share a training.

    Returns:
        Cell -> the run that was begun for it, and the errors of the cells that failed.
    """
    distinct: dict[str, Cell] = {}
    for cell in cells:
        distinct.setdefault(cell.training, cell)
    workers = _workers(list(distinct.values()), config, context.parent)
    try:
        results = in_processes(_train_worker, workers, workers[0].threads)
    except WorkerLostError as error:
        raise InputError(
            f"jobs={len(workers)}: a worker was lost ({error}); started again, the study goes on"
        ) from error
    begun = {cell: run_id for runs, _ in results for cell, run_id in runs.items()}
    return begun, [failure for _, failed in results for failure in failed]


def _workers(cells: Sequence[Cell], config: GroupingStudyConfig, parent: str) -> list[_Worker]:
    """Deal cells out by how many members they have. With a cluster one worker has all: members are dealt out there."""
    if config.backend == "ray":
        return [_Worker(0, cells, {}, config.threads or 1, parent)]
    # The configuration of a cell without training leaves out jobs and threads.
    own = cells[0].stage_config(retrain.stage, jobs=config.jobs, threads=config.threads)
    devices, threads = worker_devices(own, len(cells))
    dealt = deal([cell.config.n_groups or 1 for cell in cells], len(devices))
    return [
        _Worker(
            number,
            [cells[place] for place in places],
            {"device": str(devices[number]), "jobs": 1, "threads": threads},
            threads,
            parent,
        )
        for number, places in enumerate(dealt)
    ]


def _train_worker(worker: _Worker) -> tuple[dict[Cell, str], list[InputError]]:
    """Train the worker's cells; return their runs, which stay open, and the errors of those that failed."""
    session, begun, failed = Session.connect(), {}, []
    with pinned(worker.threads):
        for cell in tqdm(
            worker.cells, desc=f"grouping_study, worker {worker.number}", unit="cell", position=worker.number
        ):
            here = cell.stage_config(cell.trained, force=cell.config.force, **worker.parameters)
            try:
                with begin_study_run(cell.candidate, session, worker.parent) as run:
                    run.ensure(cell.trained, here)
                begun[cell] = run.run.id
            except InputError as error:
                failed.append(type(error)(f"{cell.title}: {error}"))
    return begun, failed


def _finish(cell: Cell, run: StudyRun) -> None:
    """Bring a trained cell to its last stage, and have its run carry the metrics."""
    # A stage that the worker has made anew is not made once more.
    force = cell.config.force and cell.last is not cell.trained
    upstream = run.ensure(cell.last, cell.stage_config(cell.last, force=force))
    metrics = carried(upstream, _CARRIED, run.session.store)
    run.run.log_metrics({**metrics, "flops_share": metrics["flops_max"] / metrics["flops_base"]})
