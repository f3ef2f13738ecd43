"""The tracking store: runs found by fingerprint, opened, adopted from `mlflow run`, and closed when their process is gone."""

import json
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlparse

import mlflow
import psutil
import requests
from mlflow.entities import Run as StoredRun
from mlflow.entities import RunStatus
from mlflow.environment_variables import MLFLOW_EXPERIMENT_ID, MLFLOW_EXPERIMENT_NAME, MLFLOW_RUN_ID
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from sqlalchemy.exc import SQLAlchemyError

from analysis import tags
from analysis.artifacts import downloaded
from sensai.errors import InputError
from sensai.files import storage_error
from sensai.tracking.run import Run

_ANSWER_SECONDS = 5
# That MLflow gives at once.
_MOST_RUNS = 10_000
_SAME_PROCESS_SECONDS = 1.0
_DEFAULT_EXPERIMENT = "Default"
_ABOUT = f"""Runs of sensAI: every stage is a run, those that it needed are nested below the first that asked for them.

- one stage: filter by ``tags.`{tags.STAGE}` = 'prune'``, then compare `val_accuracy` and `flops_max` in the chart view
- one data set or network: ``tags.`{tags.DATASET}` = 'digits'``, ``tags.`{tags.ARCH}` = 'resnet20'``
- what a run stands on: its tags `{tags.UPSTREAM}<stage>`
"""


@dataclass(frozen=True)
class Store:
    """One tracking store, and the experiment that new runs go to.

    Whatever connects them they are alike: what a process keeps by a run's id, which is never given twice, is found again.

    Attributes:
        client: of the store.
        experiment_id: of the experiment.
        labels: tags that every new run gets.
    """

    client: MlflowClient = field(compare=False)
    experiment_id: str
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def connect(cls) -> "Store":
        """The store that MLflow is set to, and the experiment that `mlflow run` or the environment names.

        Raises:
            InputError: the store does not answer, or there is no such experiment.
        """
        uri = mlflow.get_tracking_uri()
        _check_reachable(uri)
        try:
            client = MlflowClient(uri)
            store = cls(client, _experiment_id(client))
            store._describe_experiment()
            return store
        except (MlflowException, SQLAlchemyError, ImportError) as error:
            raise storage_error(error, database=uri) or InputError(
                f"MLFLOW_TRACKING_URI={uri!r}: {str(error).splitlines()[0]}"
            ) from error

    def _describe_experiment(self) -> None:
        """Unless somebody has done so."""
        if self._described():
            return
        try:
            self.client.set_experiment_tag(self.experiment_id, tags.NOTE, _ABOUT)
        except MlflowException:
            # Of two processes that begin at once, the second is refused by the database.
            if not self._described():
                raise

    def _described(self) -> bool:
        return tags.NOTE in self.client.get_experiment(self.experiment_id).tags

    def find(self, stage: str, fingerprint: str) -> StoredRun | None:
        """The latest finished run of a stage with a fingerprint, in any experiment."""
        found = self.tagged(stage, tags.FINGERPRINT, fingerprint)
        return found[0] if found else None

    def finished_run(self, run_id: str, stages: Sequence[str], parameter: str = "from_run") -> StoredRun:
        """The finished run of one of some stages that an id names, directly or through `sensai.reused`.

        Raises:
            InputError: no such run, another stage's, or one that has not finished.
        """
        run = self._named(run_id, parameter)
        actual = run.data.tags.get(tags.STAGE)
        if actual not in stages:
            raise InputError(
                f"{parameter}={run_id!r}: must be a run of {' or '.join(stages)}, but it is one of {actual or 'no stage'}"
            )
        return _finished(run, run_id, parameter)

    def finished(self, run_id: str, parameter: str) -> StoredRun:
        """The finished run, of whichever stage, that an id names, directly or through `sensai.reused`.

        Raises:
            InputError: no such run, or one that has not finished.
        """
        return _finished(self._named(run_id, parameter), run_id, parameter)

    def _named(self, run_id: str, parameter: str) -> StoredRun:
        try:
            run = self.client.get_run(run_id)
            if tags.REUSED in run.data.tags:
                run = self.client.get_run(run.data.tags[tags.REUSED])
        except MlflowException as error:
            raise InputError(f"{parameter}={run_id!r}: there is no such run") from error
        return run

    def adopt(self) -> Run | None:
        """The run that `mlflow run` opened for this process, if it did; asked a second time there is none."""
        run_id = os.environ.pop(MLFLOW_RUN_ID.name, None)
        if run_id is None:
            return None
        run = Run(self.client, run_id, adopted=True)
        run.set_tags({tags.PROCESS: _this_process()})
        return run

    def labelled(self, labels: Mapping[str, str]) -> "Store":
        """The same store, whose new runs get these tags too: people filter by them, and would else lose nested runs."""
        return replace(self, labels={**self.labels, **labels})

    def create(self, name: str, parent: str | None, run_tags: Mapping[str, str] | None = None) -> Run:
        """A new run, below another one where `parent` is given."""
        nested = {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
        all_tags = {**self.labels, tags.PROCESS: _this_process(), **nested, **(run_tags or {})}
        return Run(self.client, self.client.create_run(self.experiment_id, tags=all_tags, run_name=name).info.run_id)

    def take_over(self, run_id: str) -> Run:
        """A run that another process of this machine has left open, from now on this process's own."""
        run = Run(self.client, run_id)
        run.set_tags({tags.PROCESS: _this_process()})
        return run

    def tagged(self, stage: str, tag: str, value: str) -> list[StoredRun]:
        """The finished runs of a stage with a tag, in any experiment, newest first."""
        return self._search(
            f"tags.`{tag}` = '{value}' and tags.`{tags.STAGE}` = '{stage}' and attributes.status = 'FINISHED'",
            limit=_MOST_RUNS,
        )

    @contextmanager
    def downloaded(self, run_id: str, path: str) -> Iterator[Path]:
        """An artifact of a run, to be read within the block.

        Raises:
            InputError: the run has lost the artifact.
            StorageError: there is no room for a copy.
        """
        with ExitStack() as kept:
            try:
                local = kept.enter_context(downloaded(run_id, path, self.client.tracking_uri))
            except Exception as error:
                raise storage_error(error, tempfile.gettempdir()) or InputError(
                    f"run {run_id} has no artifact {path!r} any more ({type(error).__name__}); "
                    "delete the run or use force=true"
                ) from error
            yield local

    def tags_of(self, run_id: str) -> dict[str, str]:
        """All tags of a run."""
        return dict(self.client.get_run(run_id).data.tags)

    def metrics_of(self, run_id: str) -> dict[str, float]:
        """The latest value of every metric of a run."""
        return dict(self.client.get_run(run_id).data.metrics)

    def member_runs(self, retrain_run: str) -> dict[int, str]:
        """Member number -> run id of the member runs of a retraining."""
        found = self._search(
            f"tags.`{tags.STAGE}` = 'member' and tags.`{tags.SPLIT}` = 'val' "
            f"and tags.`{tags.UPSTREAM}retrain` = '{retrain_run}'",
            limit=_MOST_RUNS,
        )
        return {int(run.data.tags[tags.MEMBER]): run.info.run_id for run in found}

    def close_orphans(self) -> None:
        """Close runs of this machine that are still RUNNING although their process is gone (MLflow has no heartbeat)."""
        for run in self._search("attributes.status = 'RUNNING'", limit=1000):
            if _is_orphan(run.data.tags.get(tags.PROCESS)):
                self._kill(run.info.run_id, "its process is gone")

    def close_lost(self, run_id: str, reason: str) -> None:
        """Close a run whose process is gone, on whichever machine that was, and what it left open below it."""
        below = self._search(f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}'", limit=_MOST_RUNS)
        for run in [*below, self.client.get_run(run_id)]:
            if run.info.status == "RUNNING":
                self._kill(run.info.run_id, reason)

    def _kill(self, run_id: str, reason: str) -> None:
        self.client.set_tag(run_id, tags.FAILURE, reason)
        self.client.set_terminated(run_id, RunStatus.to_string(RunStatus.KILLED))

    def _search(self, filter_string: str, limit: int) -> list[StoredRun]:
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        return list(
            self.client.search_runs(
                experiments, filter_string, max_results=limit, order_by=["attributes.start_time DESC"]
            )
        )


def _finished(run: StoredRun, run_id: str, parameter: str) -> StoredRun:
    if run.info.status != "FINISHED":
        raise InputError(f"{parameter}={run_id!r}: must have finished, but it is {run.info.status}")
    return run


def _check_reachable(uri: str) -> None:
    parsed = urlparse(uri)
    if parsed.scheme in ("http", "https"):
        try:
            requests.get(f"{uri.rstrip('/')}/health", timeout=_ANSWER_SECONDS)
        except requests.RequestException as error:
            raise InputError(
                f"MLFLOW_TRACKING_URI={uri!r}: no tracking server answers within {_ANSWER_SECONDS} s "
                f"({type(error).__name__})"
            ) from error
    elif parsed.scheme == "sqlite":
        folder = Path(uri.removeprefix("sqlite:///")).parent
        if not os.access(folder, os.W_OK):
            raise InputError(
                f"MLFLOW_TRACKING_URI={uri!r}: the folder {str(folder)!r} does not exist or is not writable"
            )


def _experiment_id(client: MlflowClient) -> str:
    if given := MLFLOW_EXPERIMENT_ID.get():
        return client.get_experiment(str(given)).experiment_id
    name = MLFLOW_EXPERIMENT_NAME.get() or _DEFAULT_EXPERIMENT
    experiment = client.get_experiment_by_name(name)
    return experiment.experiment_id if experiment else client.create_experiment(name)


def _this_process() -> str:
    process = psutil.Process()
    return json.dumps({"host": socket.gethostname(), "pid": process.pid, "started": process.create_time()})


def _is_orphan(tag: str | None) -> bool:
    """Whether a run's process ran on this machine and is gone."""
    if tag is None:
        return False
    owner = json.loads(tag)
    if owner["host"] != socket.gethostname():
        return False
    try:
        process = psutil.Process(owner["pid"])
        gone = process.status() == psutil.STATUS_ZOMBIE
        return gone or abs(process.create_time() - owner["started"]) > _SAME_PROCESS_SECONDS
    except psutil.NoSuchProcess:
        return True
