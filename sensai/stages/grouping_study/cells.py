"""The cells of a study: each one way to group the classes with one seed, in a run of its own with the stages that it needs
below it. Trained in workers side by side; evaluated one after another, since evaluate times what it runs.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from mlflow.entities import Run as StoredRun
from tqdm import tqdm

from sensai.cluster.cores import deal, pinned
from sensai.config import EvaluateConfig, GroupingStudyConfig
from sensai.errors import InputError, UnreachableTargetError
from sensai.pipeline.context import dataset_of, worker_devices
from sensai.pipeline.stage import Context, Stage, upstream_of
from sensai.stages import evaluate, prune, retrain
from sensai.tracking import Run, Store, tags
from sensai.training.backends.local import in_processes
from sensai.training.workers import WorkerLostError

STAGE = "cell"
# Stage -> what a cell's run carries of its metrics, and under which name.
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
    """Where a cell stands in the study's tables.

    Attributes:
        method: by which classes are grouped, or `control`.
        n_groups: that are compared with each other; the control's own number is 1.
        ratio: likewise.
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
    """

    place: Place
    config: EvaluateConfig
    study: str

    @property
    def trained(self) -> Stage[Any]:
        """The stage that workers bring it to."""
        return retrain.stage if self.config.epochs else prune.stage

    @property
    def last(self) -> Stage[Any]:
        """The stage that ends it: what is not trained is not evaluated either."""
        return evaluate.stage if self.config.epochs else prune.stage

    @cached_property
    def fingerprint(self) -> str:
        """Digest of its place and of all that its result depends on."""
        content = [asdict(self.place), self.last.fingerprint(stage_config(self, self.last))]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @cached_property
    def training(self) -> str:
        """Digest of all that its training depends on: cells of several places may share one."""
        return self.trained.fingerprint(stage_config(self, self.trained))


@dataclass(frozen=True)
class _Worker:
    """The cells that one process trains one after another.

    Attributes:
        number: of the worker.
        cells: in their order.
        parameters: of its own: where cells are trained.
        threads: of every library.
        parent: run that theirs are nested below.
    """

    number: int
    cells: Sequence[Cell]
    parameters: dict[str, Any]
    threads: int
    parent: str


def run_cells(cells: Sequence[Cell], config: GroupingStudyConfig, context: Context) -> list[StoredRun]:
    """The finished run of every cell: one from the store, or a new one.

    Raises:
        UnreachableTargetError: all cells that failed did so for a FLOPs target.
        InputError: cells failed, which are named when all others are finished, or a worker was killed.
    """
    found = {} if config.force else _finished(cells, context.store)
    missing = [cell for cell in cells if cell not in found]
    opened, failures = _train(missing, config, context) if missing else ({}, [])
    trained = {cell.training for cell in opened}
    for cell in tqdm([each for each in missing if each.training in trained], desc="grouping_study", unit="cell"):
        run = context.store.take_over(opened[cell]) if cell in opened else _open(cell, context.store, context.parent)
        with run.closing():
            _finish(cell, run, context.store)
        found[cell] = run.id
    if failures:
        unreachable = all(isinstance(failure, UnreachableTargetError) for failure in failures)
        raise (UnreachableTargetError if unreachable else InputError)("; ".join(map(str, failures)))
    return [context.store.client.get_run(found[cell]) for cell in cells]


def stage_config(cell: Cell, stage: Stage[Any], **more: object) -> Any:
    """The stage's part of the parameters."""
    return cell.config.upstream(stage.config).model_copy(update=more)


def _finished(cells: Sequence[Cell], store: Store) -> dict[Cell, str]:
    found = {cell: store.find(STAGE, cell.fingerprint) for cell in cells}
    return {cell: run.info.run_id for cell, run in found.items() if run is not None}


def _train(
    cells: Sequence[Cell], config: GroupingStudyConfig, context: Context
) -> tuple[dict[Cell, str], list[InputError]]:
    """Cell -> the run that was opened for it, of cells that are trained alike the first; and why others failed."""
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
    opened = {cell: run_id for runs, _ in results for cell, run_id in runs.items()}
    return opened, [failure for _, failed in results for failure in failed]


def _workers(cells: Sequence[Cell], config: GroupingStudyConfig, parent: str) -> list[_Worker]:
    """Cells dealt out by how many members they have; with a cluster all to one, whose members are dealt out there."""
    if config.backend == "ray":
        return [_Worker(0, cells, {}, config.threads or 1, parent)]
    # Without training a cell's own parameters have no workers.
    own = stage_config(cells[0], retrain.stage, jobs=config.jobs, threads=config.threads)
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
    """The runs of the worker's cells, which are left open, and what is to be said of those that failed."""
    store, opened, failed = Store.connect(), {}, []
    with pinned(worker.threads):
        for cell in tqdm(
            worker.cells, desc=f"grouping_study, worker {worker.number}", unit="cell", position=worker.number
        ):
            run = _open(cell, store, worker.parent)
            try:
                with run.failing():
                    here = stage_config(cell, cell.trained, force=cell.config.force, **worker.parameters)
                    cell.trained.ensure(here, store, run.id)
                opened[cell] = run.id
            except InputError as error:
                failed.append(type(error)(f"{_title(cell)}: {error}"))
    return opened, failed


def _open(cell: Cell, store: Store, parent: str) -> Run:
    run_tags = {
        tags.STAGE: STAGE,
        tags.FINGERPRINT: cell.fingerprint,
        tags.STUDY: cell.study,
        tags.CELL: json.dumps(asdict(cell.place)),
        tags.CONFIG: cell.config.model_dump_json(),
        tags.DATASET: cell.config.dataset,
        tags.DATA_DIGEST: dataset_of(cell.config).digest,
        tags.ARCH: cell.config.arch,
    }
    run = store.create(_title(cell), parent, run_tags)
    run.log_params(asdict(cell.place))
    return run


def _finish(cell: Cell, run: Run, store: Store) -> None:
    # Where it was made anew in the worker, it is not once more.
    force = cell.config.force and cell.last is not cell.trained
    last = cell.last.ensure(stage_config(cell, cell.last, force=force), store, run.id)
    run_ids = {**upstream_of(store.tags_of(last)), cell.last.name: last}
    run.set_tags({tags.UPSTREAM + name: run_id for name, run_id in run_ids.items()})
    run.log_metrics(_carried(run_ids, store))


def _carried(run_ids: dict[str, str], store: Store) -> dict[str, float]:
    metrics = {
        name: measured[own]
        for stage, names in _CARRIED.items()
        if stage in run_ids
        for measured in [store.metrics_of(run_ids[stage])]
        for own, name in names.items()
        if own in measured
    }
    return metrics | {"flops_share": metrics["flops_max"] / metrics["flops_base"]}


def _title(cell: Cell) -> str:
    place = cell.place
    return f"cell {place.method}, {place.n_groups} groups, ratio={place.ratio:g}, seed={place.seed}"
