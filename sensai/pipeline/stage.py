"""One step of the pipeline: its fingerprint, cache, lock, earlier stages, and the run that it logs into."""

import hashlib
import inspect
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from mlflow.entities import Run as StoredRun

from sensai.config import StageConfig
from sensai.config.arguments import as_yaml
from sensai.data.dataset import SPLITS, Dataset
from sensai.data.dataset_names import FOLDER
from sensai.files import make_folder
from sensai.locks import is_taken, locked
from sensai.pipeline.closing import Finder, headline, no_findings
from sensai.pipeline.context import Context
from sensai.pipeline.lineage import lineage, upstream_tags
from sensai.pipeline.nearest_run import why_none_fits
from sensai.pipeline.run_lifecycle import Description, enter_store, open_run, reuse
from sensai.pipeline.session import Session
from sensai.tracking import Run, Store, tags
from sensai.tracking.code_version import code_commit

_log = logging.getLogger(__name__)

ConfigT = TypeVar("ConfigT", bound=StageConfig)


@dataclass(frozen=True)
class Stage(Generic[ConfigT]):
    """One step of the pipeline.

    Attributes:
        version: raised whenever the stage's results change.
        config: the class of its parameters.
        previous: the stage whose run it stands on.
        execute: computes and logs.
        title: the part of the run's name that tells it from others of the stage.
        reads: the splits of the data that it reads itself.
        inputs: what enters the fingerprint beside the parameters, by content.
        found: tells what a finished run of it found.
        check: refuses parameters and data that it cannot work with, before earlier stages are run.
        is_current: tells whether the things are still there that a finished run made beside its artifacts.
    """

    version: int
    config: type[ConfigT]
    previous: "Stage[Any] | None"
    execute: Callable[[ConfigT, Context], None]
    title: Callable[[ConfigT], str] = lambda _: ""
    reads: tuple[str, ...] = ()
    inputs: Callable[[ConfigT, Session], dict[str, Any]] = field(default=lambda *_: {})
    found: Finder = no_findings
    check: Callable[[ConfigT, Dataset], None] = lambda *_: None
    is_current: Callable[[ConfigT, Store, StoredRun], bool] = lambda *_: True

    @property
    def name(self) -> str:
        """Return the name, as in MLproject, tags and lineage."""
        return self.config.stage

    def run(self, config: ConfigT) -> str:
        """Run the stage by itself, its missing upstream stages nested below it; return the id of the run to use.

        Raises:
            InputError: the user can mend it.
        """
        with enter_store(self._run_name(config)) as (store, adopted):
            return self.ensure(config, Session(store), parent=None, adopted=adopted)

    def ensure(self, config: ConfigT, session: Session, parent: str | None, adopted: Run | None = None) -> str:
        """Return the id of a finished run with this configuration: one from the store, or a new one.

        Args:
            config: the stage's parameters.
            session: its store is searched, and gets the new runs.
            parent: run that new runs are nested below; None: the new run is itself the top.
            adopted: the run that `mlflow run` opened for this stage.
        """
        before = _run_before(self, config, session.store)
        if before is not None:
            config = _inherited(self, config, before.config)
        fingerprint = self.fingerprint(config, session, before.fingerprint if before else None)
        lock = _lock(Path(config.work_dir), fingerprint)
        # With `force` another process may hold the lock while it repeats an existing result.
        if is_taken(lock) and (found := self._found(config, session.store, fingerprint)):
            return self._reused(found, session, parent, adopted)
        # Locks are taken from the later stage to the earlier one, so two processes cannot wait for each other.
        with locked(lock, self._run_name(config)):
            # The store is searched within the lock: another process may have finished the same while this one waited.
            if found := self._found(config, session.store, fingerprint):
                return self._reused(found, session, parent, adopted)
            self._explain(config, session, fingerprint)
            with open_run(session.store, self._description(config, session, fingerprint), parent, adopted) as run:
                self._execute(config, session, run, parent or run.id, before, fingerprint)
            # A run that is killed before it is finished leaves its checkpoints to the next one.
            shutil.rmtree(_checkpoints(config, fingerprint), ignore_errors=True)
        self._say_nested(run.id, session, parent, stored=False)
        return run.id

    def _reused(self, found: str, session: Session, parent: str | None, adopted: Run | None) -> str:
        self._say_nested(found, session, parent, stored=True)
        return reuse(session.store, found, adopted)

    def _say_nested(self, run_id: str, session: Session, parent: str | None, *, stored: bool) -> None:
        """Log one line on a run that another one needed, once; that other one ends with lines of its own."""
        if parent is not None and session.is_first(run_id):
            _log.info("%s", headline(self.name, run_id, self.found, session.store, stored=stored))

    def _explain(self, config: ConfigT, session: Session, fingerprint: str) -> None:
        """Log why no stored run answers, for the first stage that has to run; the others follow from it.

        Runs of a study differ on purpose.
        """
        if config.force or session.store.labels or not session.is_first("no stored run fits"):
            return
        host = json.dumps(self.inputs(config, session).get("host", {}))
        why = why_none_fits(config, fingerprint, session.data_digest(config), host, session.store)
        if why:
            _log.info("%s: %s", self.name, why)

    def _found(self, config: ConfigT, store: Store, fingerprint: str) -> str | None:
        """Return the id of a finished run that has the result already."""
        found = None if config.force else store.find(self.name, fingerprint)
        return found.info.run_id if found and self.is_current(config, store, found) else None

    def fingerprint(self, config: ConfigT, session: Session, upstream: str | None = None) -> str:
        """Return the digest of all that the result depends on.

        Args:
            config: the stage's parameters.
            session: that the data come from.
            upstream: fingerprint of the stage before, where a run of it was named.
        """
        if self.previous is None:
            before = session.data_digest(config)
        else:
            before = upstream or self.previous.fingerprint(config.upstream(self.previous.config), session)
        content = [self.name, self.version, config.fingerprint_parameters(), self.inputs(config, session), before]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _description(self, config: ConfigT, session: Session, fingerprint: str) -> Description:
        run_tags = {tags.FINGERPRINT: fingerprint, tags.COMMIT: code_commit(), **stage_tags(self.name, config, session)}
        about = inspect.getdoc(inspect.getmodule(self.execute))
        return Description(self._run_name(config), run_tags, config.own_values(), about, as_yaml(config))

    def _execute(
        self, config: ConfigT, session: Session, run: Run, parent: str, before: "_Before | None", fingerprint: str
    ) -> None:
        self.check(config, session.dataset(config))
        upstream = self._upstream(config, session, parent, before)
        run.set_tags(upstream_tags(upstream))
        log_data(run, config, session, self.reads)
        # Other processes read these tags while the run is busy.
        run.flush()
        checkpoints = _checkpoints(config, fingerprint)
        if config.force:
            shutil.rmtree(checkpoints, ignore_errors=True)
        self.execute(config, Context(config, session, run, upstream, parent, checkpoints))

    def _upstream(self, config: ConfigT, session: Session, parent: str, before: "_Before | None") -> dict[str, str]:
        if self.previous is None:
            return {}
        if before is not None:
            run_id = before.run_id
        else:
            run_id = self.previous.ensure(config.upstream(self.previous.config), session, parent)
        return lineage(session.store, self.previous.name, run_id)

    def _run_name(self, config: ConfigT) -> str:
        return run_name(config, self.title(config))


def stage_tags(stage: str, config: StageConfig, session: Session) -> dict[str, str]:
    """Return the tags that every run with a stage's parameters has: what it is, of which data and network."""
    return {tags.STAGE: stage, tags.CONFIG: config.model_dump_json(), **data_tags(config, session)}


def data_tags(config: StageConfig, session: Session) -> dict[str, str]:
    """Return the tags that describe data and network."""
    return {tags.DATASET: config.dataset, tags.DATA_DIGEST: session.data_digest(config), tags.ARCH: config.arch}


def run_name(config: StageConfig, title: str) -> str:
    """Return the name of a run as the UI lists it: stage, what tells it from others, architecture, data set.

    The UI shows about twenty characters of it.
    """
    return " ".join(part for part in (config.stage, title, Path(config.arch).name, data_name(config)) if part)


def log_data(run: Run, config: StageConfig, session: Session, splits: Sequence[str]) -> None:
    """Log the data set of a run, which the UI shows beside it, with the splits that it reads; nothing without any."""
    if splits:
        data = session.dataset(config)
        counts = {name: len(split) for name in SPLITS if (split := getattr(data, name)) is not None}
        place = config.data_dir or config.dataset
        run.log_dataset(data_name(config), data.digest, place, counts, ", ".join(splits))


def data_name(config: StageConfig) -> str:
    """Return the name of the data as people read it: a folder of images has its own name."""
    return Path(config.data_dir if config.dataset == FOLDER else config.dataset).absolute().name


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
    """Return the configuration with the parameters of the run that it stands on."""
    # A stage keeps the parameters of its own result, shared names (seed, criterion) too, so that several can stand on one run.
    names = stage.config.inherited_names() - config.fingerprint_parameters().keys()
    inherited = {name: value for name, value in values.items() if name in names}
    if config.data_dir:
        inherited["data_dir"] = config.data_dir
    return stage.config.model_validate({**config.model_dump(), **inherited})


def _checkpoints(config: StageConfig, fingerprint: str) -> Path:
    return Path(config.work_dir) / "checkpoints" / fingerprint


def _lock(work_dir: Path, fingerprint: str) -> Path:
    folder = make_folder(work_dir / "locks", "work_dir")
    return folder / f"{fingerprint}.lock"
