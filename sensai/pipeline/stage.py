"""What all stages share: fingerprint, cache, upstream runs, locks, and the run that is logged into."""

import hashlib
import inspect
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from mlflow.entities import Run as StoredRun

from sensai.config import StageConfig
from sensai.data.dataset_names import FOLDER
from sensai.files import make_folder
from sensai.locks import is_taken, locked
from sensai.pipeline.context import dataset_of
from sensai.tracking import Run, Store, tags

_log = logging.getLogger(__name__)

# Where a run is made, not what it gives: never inherited from `from_run`.
_NOT_INHERITED = {"device", "jobs", "threads", "backend", "ray_address", "force", "work_dir", "from_run", "traceback"}

ConfigT = TypeVar("ConfigT", bound=StageConfig)


@dataclass(frozen=True)
class Context:
    """What a stage works with beside its parameters.

    Attributes:
        store: for the upstream runs' artifacts.
        run: the stage's own run.
        upstream: stage -> run id, of every stage before.
        parent: the run that further runs (members) are nested below.
        checkpoints: folder of what a killed run left and its successor goes on from; removed when the stage is done.
    """

    store: Store
    run: Run
    upstream: dict[str, str]
    parent: str
    checkpoints: Path


@dataclass(frozen=True)
class Stage(Generic[ConfigT]):
    """One step of the pipeline.

    Attributes:
        version: raised whenever the stage's results change.
        config: the class of its parameters.
        previous: the stage whose run it stands on.
        execute: computes and logs.
        title: the part of the run's name that tells it from others of the stage.
        inputs: what enters the fingerprint beside the parameters, by content.
        check: refuses, before the stages before it are run, what it could not work with.
        is_current: whether what a finished run made beside its artifacts is still there.
    """

    version: int
    config: type[ConfigT]
    previous: "Stage[Any] | None"
    execute: Callable[[ConfigT, Context], None]
    title: Callable[[ConfigT], str] = lambda _: ""
    inputs: Callable[[ConfigT], dict[str, Any]] = field(default=lambda _: {})
    check: Callable[[ConfigT], None] = lambda _: None
    is_current: Callable[[ConfigT, Store, StoredRun], bool] = lambda *_: True

    @property
    def name(self) -> str:
        """As in MLproject, tags and lineage."""
        return self.config.stage

    def run(self, config: ConfigT) -> str:
        """Run the stage by itself, its missing upstream stages nested below it; returns the id of the run to use.

        Raises:
            InputError: what the user can mend.
        """
        store = Store.connect()
        with store.refusals():
            store.close_orphans()
            adopted = store.adopt()
            if adopted is None:
                return self.ensure(config, store, parent=None)
            with adopted.closing():
                return self.ensure(config, store, parent=None, root=adopted)

    def ensure(self, config: ConfigT, store: Store, parent: str | None, root: Run | None = None) -> str:
        """The id of a finished run with this configuration: one from the store, or a new one.

        Args:
            config: the stage's parameters.
            store: where runs are looked for and made.
            parent: run that new runs are nested below; None: the new run is itself the top.
            root: the run that `mlflow run` opened for this stage.
        """
        before = _run_before(self, config, store)
        if before is not None:
            config = _inherited(self, config, before.config)
        fingerprint = self.fingerprint(config, before.fingerprint if before else None)
        lock = _lock(Path(config.work_dir), fingerprint)
        # Who holds it may be doing once more, by `force`, what is there already.
        if is_taken(lock) and (found := self._found(config, store, fingerprint)):
            return reuse(store, root, found)
        # Locks are taken from the later stage to the earlier one, so two processes cannot wait for each other.
        with locked(lock, self._run_name(config)):
            # Not before: another process may have finished the same while this one waited.
            if found := self._found(config, store, fingerprint):
                return reuse(store, root, found)
            run = root or store.create(self._run_name(config), parent)
            with run.closing():
                self._execute(config, store, run, parent or run.id, before, fingerprint)
            # Not before the run is finished: one that is killed until then goes on from them.
            shutil.rmtree(_checkpoints(config, fingerprint), ignore_errors=True)
        return run.id

    def _found(self, config: ConfigT, store: Store, fingerprint: str) -> str | None:
        """The id of a finished run that gives what this one would."""
        found = None if config.force else store.find(self.name, fingerprint)
        return found.info.run_id if found and self.is_current(config, store, found) else None

    def fingerprint(self, config: ConfigT, upstream: str | None = None) -> str:
        """Digest of all that the result depends on; `upstream` is known where a run was named."""
        if self.previous is None:
            before = dataset_of(config).digest
        else:
            before = upstream or self.previous.fingerprint(config.upstream(self.previous.config))
        content = [self.name, self.version, config.fingerprint_parameters(), self.inputs(config), before]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _execute(
        self, config: ConfigT, store: Store, run: Run, parent: str, before: "_Before | None", fingerprint: str
    ) -> None:
        self.check(config)
        upstream = self._upstream(config, store, parent, before)
        self._describe(config, run, upstream, fingerprint)
        _log.info("%s: running", self.name)
        checkpoints = _checkpoints(config, fingerprint)
        if config.force:
            shutil.rmtree(checkpoints, ignore_errors=True)
        self.execute(config, Context(store, run, upstream, parent, checkpoints))

    def _upstream(self, config: ConfigT, store: Store, parent: str, before: "_Before | None") -> dict[str, str]:
        if self.previous is None:
            return {}
        if before is not None:
            run_id = before.run_id
        else:
            run_id = self.previous.ensure(config.upstream(self.previous.config), store, parent)
        return {**upstream_of(store.tags_of(run_id)), self.previous.name: run_id}

    def _describe(self, config: ConfigT, run: Run, upstream: dict[str, str], fingerprint: str) -> None:
        run.set_name(self._run_name(config))
        run.log_params(config.model_dump())
        run.describe(inspect.getdoc(inspect.getmodule(self.execute)))
        run.set_tags(
            {
                tags.STAGE: self.name,
                tags.FINGERPRINT: fingerprint,
                tags.CONFIG: config.model_dump_json(),
                **data_tags(config),
                **{tags.UPSTREAM + name: run_id for name, run_id in upstream.items()},
            }
        )
        # From now on it is found as a run of this stage, also while it is busy.
        run.flush()

    def _run_name(self, config: ConfigT) -> str:
        return run_name(config, self.title(config))


def data_tags(config: StageConfig) -> dict[str, str]:
    """What a run says of data and network."""
    return {tags.DATASET: config.dataset, tags.DATA_DIGEST: dataset_of(config).digest, tags.ARCH: config.arch}


def run_name(config: StageConfig, title: str) -> str:
    """The name of a run as the UI lists it: stage, data set, architecture, and what tells it from others."""
    return " ".join(part for part in (config.stage, data_name(config), Path(config.arch).name, title) if part)


def data_name(config: StageConfig) -> str:
    """What people call the data: a folder of images by its own name."""
    return Path(config.data_dir if config.dataset == FOLDER else config.dataset).absolute().name


def upstream_of(run_tags: dict[str, str]) -> dict[str, str]:
    """Stage -> run id from a run's tags."""
    return {key.removeprefix(tags.UPSTREAM): value for key, value in run_tags.items() if key.startswith(tags.UPSTREAM)}


@dataclass(frozen=True)
class _Before:
    """The run that `from_run` names."""

    run_id: str
    fingerprint: str
    config: dict[str, Any]


def _run_before(stage: Stage[Any], config: StageConfig, store: Store) -> _Before | None:
    run_id = getattr(config, "from_run", "")
    if not run_id or stage.previous is None:
        return None
    run = store.finished_run(run_id, [stage.previous.name])
    run_tags = run.data.tags
    return _Before(run.info.run_id, run_tags[tags.FINGERPRINT], json.loads(run_tags[tags.CONFIG]))


def _inherited(stage: Stage[ConfigT], config: ConfigT, values: dict[str, Any]) -> ConfigT:
    """The configuration with the parameters of the run that it stands on."""
    # What makes this very stage's result is its own, shared names (seed, criterion) too, so that several can stand on one run.
    own = _NOT_INHERITED | config.fingerprint_parameters().keys()
    inherited = {name: value for name, value in values.items() if name in stage.config.model_fields and name not in own}
    if config.data_dir:
        inherited["data_dir"] = config.data_dir
    return stage.config.model_validate({**config.model_dump(), **inherited})


def reuse(store: Store, run: Run | None, found: str) -> str:
    """Answer from the store; the run that was opened for the stage says so and carries the metrics."""
    if run is not None:
        run.set_tags({tags.REUSED: found})
        run.log_metrics(store.metrics_of(found))
    return found


def _checkpoints(config: StageConfig, fingerprint: str) -> Path:
    return Path(config.work_dir) / "checkpoints" / fingerprint


def _lock(work_dir: Path, fingerprint: str) -> Path:
    folder = make_folder(work_dir / "locks", "work_dir")
    return folder / f"{fingerprint}.lock"
