"""The tracking store: find runs by fingerprint, open them, adopt them from `mlflow run`, close those whose process is gone."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlflow.entities import LifecycleStage, RunStatus
from mlflow.entities import Run as StoredRun
from mlflow.environment_variables import MLFLOW_RUN_ID
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from sensai.errors import InputError
from sensai.files import reading, storage_error
from sensai.signals import shielded
from sensai.tracking import tags
from sensai.tracking.artifacts import downloaded_from
from sensai.tracking.database_tables import sqlite_path
from sensai.tracking.experiments import NOT_THERE, chosen_experiment
from sensai.tracking.owners import NEVER_BEGUN, this_process, why_orphaned
from sensai.tracking.reachable import permission_errors, reachable_store, store_errors
from sensai.tracking.run import Run

# MLflow returns at most so many runs at once.
_MOST_RUNS = 10_000
_ABOUT = f"""Runs of sensAI: every stage is a run, those that it needed are nested below the first that asked for them.

- one stage: filter by ``tags.`{tags.STAGE}` = 'prune'``, then compare `val_accuracy` and `flops_max` in the chart view
- one data set or network: ``tags.`{tags.DATASET}` = 'digits'``, ``tags.`{tags.ARCH}` = 'resnet20'``
- what a run stands on: its tags `{tags.UPSTREAM}<stage>`
"""


@dataclass(frozen=True)
class Store:
    """One tracking store, and the experiment of new runs.

    Stores with the same URI share one cache; run ids are unique, so entries never collide.

    Attributes:
        client: of the store.
        experiment_id: of the experiment.
        labels: tags that every new run gets.
    """

    client: MlflowClient = field(compare=False)
    experiment_id: str
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)
    _finished: dict[str, StoredRun] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def connect(cls) -> "Store":
        """Return MLflow's current store, with the experiment that `mlflow run` or the environment names.

        Raises:
            InputError: the store does not answer, is half-made or not writable, or there is no such experiment.
        """
        uri = reachable_store()
        with store_errors(uri):
            client = MlflowClient(uri)
            experiment = chosen_experiment(client)
            store = cls(client, experiment.experiment_id)
            if tags.NOTE not in experiment.tags:
                store._describe_experiment()
        return store

    def refusals(self) -> AbstractContextManager[None]:
        """Turn the store's refusal of this user within a stage's block into one line.

        Raises:
            InputError: the store does not allow this user's request.
        """
        return permission_errors(self.client.tracking_uri)

    def _describe_experiment(self) -> None:
        try:
            self.client.set_experiment_tag(self.experiment_id, tags.NOTE, _ABOUT)
        except MlflowException:
            # If two processes begin at once, the database refuses the second one.
            if tags.NOTE not in self.client.get_experiment(self.experiment_id).tags:
                raise

    def find(self, stage: str, fingerprint: str) -> StoredRun | None:
        """Return the latest finished run of a stage with a fingerprint, in any experiment."""
        found = self.tagged(stage, tags.FINGERPRINT, fingerprint)
        return self._noted(found[0]) if found else None

    def finished_run(self, run_id: str, stages: Sequence[str], parameter: str = "from_run") -> StoredRun:
        """Return the finished run of one of some stages that an id names, directly or through `sensai.reused`.

        Raises:
            InputError: there is no such run, it belongs to another stage, or it has not finished.
        """
        run = self._named(run_id, parameter)
        actual = run.data.tags.get(tags.STAGE)
        if actual not in stages:
            raise InputError(
                f"{parameter}={run_id!r}: must be a run of {' or '.join(stages)}, but it is one of {actual or 'no stage'}"
            )
        return _finished(run, run_id, parameter)

    def finished(self, run_id: str, parameter: str) -> StoredRun:
        """Return the finished run of any stage that an id names, directly or through `sensai.reused`.

        Raises:
            InputError: there is no such run, or it has not finished.
        """
        return _finished(self._named(run_id, parameter), run_id, parameter)

    def _named(self, run_id: str, parameter: str) -> StoredRun:
        try:
            run = self.client.get_run(run_id)
            if tags.REUSED in run.data.tags:
                run = self.client.get_run(run.data.tags[tags.REUSED])
        except MlflowException as error:
            if error.error_code not in NOT_THERE:
                raise
            raise InputError(f"{parameter}={run_id!r}: there is no such run") from error
        return run

    def adopt(self) -> Run | None:
        """Return the run that `mlflow run` opened for this process; None if there is none or it was adopted before.

        Raises:
            InputError: the environment names a run that does not exist or has ended.
        """
        run_id = os.environ.pop(MLFLOW_RUN_ID.name, None)
        if run_id is None:
            return None
        opened = self._named(run_id, MLFLOW_RUN_ID.name)
        if opened.info.lifecycle_stage != LifecycleStage.ACTIVE:
            raise InputError(f"{MLFLOW_RUN_ID.name}={run_id!r}: the run is deleted")
        # Another process may have closed it as an orphan.
        taken = opened.data.tags.get(tags.FAILURE) == NEVER_BEGUN
        if RunStatus.is_terminated(RunStatus.from_string(opened.info.status)) and not taken:
            raise InputError(
                f"{MLFLOW_RUN_ID.name}={run_id!r}: the run has ended ({opened.info.status}); unset {MLFLOW_RUN_ID.name}"
            )
        with shielded():
            run = Run(self.client, run_id, frozenset(opened.data.params), opened.info.artifact_uri).begun()
        run.set_tags({tags.PROCESS: this_process()})
        # The owner must be in the store at once, for processes that look for orphans.
        run.flush()
        if taken:
            self.client.delete_tag(run_id, tags.FAILURE)
            self.client.update_run(run_id, status="RUNNING")
        return run

    def labelled(self, labels: Mapping[str, str]) -> "Store":
        """Return the same store with tags for all new runs, so that filters by them also find nested runs."""
        return replace(self, labels={**self.labels, **labels})

    def create(self, name: str, parent: str | None, run_tags: Mapping[str, str] | None = None) -> Run:
        """Return a new run, below another one if `parent` is given."""
        nested = {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
        all_tags = {**self.labels, tags.PROCESS: this_process(), **nested, **(run_tags or {})}
        # A signal between the two steps would leave an unknown run.
        with shielded():
            info = self.client.create_run(self.experiment_id, tags=all_tags, run_name=name).info
            return Run(self.client, info.run_id, artifact_uri=info.artifact_uri).begun()

    def take_over(self, run_id: str) -> Run:
        """Return a run that another process of this machine left open; it now belongs to this process."""
        run = Run(self.client, run_id).begun()
        run.set_tags({tags.PROCESS: this_process()})
        run.flush()
        return run

    def tagged(self, stage: str, tag: str, value: str) -> list[StoredRun]:
        """Return the finished runs of a stage with a tag, in any experiment, newest first."""
        return self._search(
            f"tags.`{tag}` = '{value}' and tags.`{tags.STAGE}` = '{stage}' and attributes.status = 'FINISHED'",
            limit=_MOST_RUNS,
        )

    def newest(self, stage: str, limit: int) -> list[StoredRun]:
        """Return so many finished runs of a stage, in any experiment, newest first."""
        return self._search(f"tags.`{tags.STAGE}` = '{stage}' and attributes.status = 'FINISHED'", limit)

    @contextmanager
    def downloaded(self, run_id: str, path: str) -> Iterator[Path]:
        """Yield a local copy of a run's artifact.

        Raises:
            InputError: the run has lost the artifact, or the block cannot read it.
            StorageError: there is no room for a copy.
        """
        with ExitStack() as kept:
            try:
                artifacts = self.run(run_id).info.artifact_uri
                local = kept.enter_context(downloaded_from(artifacts, path, self.client.tracking_uri))
            except Exception as error:
                raise storage_error(error, tempfile.gettempdir()) or InputError(
                    f"run {run_id} has no artifact {path!r} any more ({type(error).__name__}); "
                    "delete the run or use force=true"
                ) from error
            with reading(f"run {run_id}: its artifact {path!r}", "delete the run or use force=true"):
                yield local

    def run(self, run_id: str) -> StoredRun:
        """Return a run with its tags and the latest value of every metric; a finished run is read only once."""
        if run_id in self._finished:
            return self._finished[run_id]
        return self._noted(self.client.get_run(run_id))

    def tags_of(self, run_id: str) -> dict[str, str]:
        """Return all tags of a run."""
        return dict(self.run(run_id).data.tags)

    def metrics_of(self, run_id: str) -> dict[str, float]:
        """Return the latest value of every metric of a run."""
        return dict(self.run(run_id).data.metrics)

    def _noted(self, run: StoredRun) -> StoredRun:
        if run.info.status == "FINISHED":
            self._finished[run.info.run_id] = run
        return run

    def member_runs(self, retrain_run: str) -> dict[int, str]:
        """Return member number -> run id of the member runs of a retraining."""
        found = self._search(
            f"tags.`{tags.STAGE}` = 'member' and tags.`{tags.SPLIT}` = 'val' "
            f"and tags.`{tags.UPSTREAM}retrain` = '{retrain_run}'",
            limit=_MOST_RUNS,
        )
        return {int(run.data.tags[tags.MEMBER]): run.info.run_id for run in found}

    def close_orphans(self) -> None:
        """Close runs of this machine that are still RUNNING although their process is gone (MLflow has no heartbeat)."""
        own = os.environ.get(MLFLOW_RUN_ID.name)
        for run in self._search("attributes.status = 'RUNNING'", limit=1000):
            if run.info.run_id != own and (reason := why_orphaned(run, shared=self._is_shared())):
                self._kill(run.info.run_id, reason)

    def _is_shared(self) -> bool:
        return sqlite_path(self.client.tracking_uri) is None

    def close_lost(self, run_id: str, reason: str) -> None:
        """Close a run whose process is gone, on any machine, and the open runs below it."""
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
