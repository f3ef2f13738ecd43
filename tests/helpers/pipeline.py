"""Stages called in process, each with a tracking store and a working folder of its own."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from sensai.config import CONFIGS, StageConfig
from tests.conftest import tiny


@dataclass(frozen=True)
class Place:
    """A tracking store (SQLite) with one experiment, and a working folder."""

    folder: Path
    experiment: str

    @classmethod
    def make(cls, folder: Path, empty_database: Path) -> "Place":
        shutil.copy(empty_database, folder / "mlflow.db")
        client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        return cls(folder, client.create_experiment("test", artifact_location=(folder / "artifacts").as_uri()))

    def copy(self, folder: Path) -> "Place":
        """Return the same runs in another store; artifacts are shared, working files are not."""
        shutil.copy(self.folder / "mlflow.db", folder / "mlflow.db")
        return replace(self, folder=folder)

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    @contextmanager
    def active(self) -> Iterator["Place"]:
        """Set MLflow to this store only, within the block."""
        with pytest.MonkeyPatch.context() as patch:
            for name in list(os.environ):
                if name.startswith("MLFLOW_"):
                    patch.delenv(name)
            patch.setenv("MLFLOW_TRACKING_URI", self.uri)
            patch.setenv("MLFLOW_EXPERIMENT_ID", self.experiment)
            patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
            mlflow.set_tracking_uri(self.uri)
            try:
                yield self
            finally:
                mlflow.set_tracking_uri(None)

    def config(self, stage: str, **parameters: object) -> StageConfig:
        """Return a tiny configuration of a stage that works in this place."""
        return CONFIGS[stage](**tiny(stage, **{"work_dir": str(self.folder / "work"), **parameters}))

    def run(self, run_id: str) -> Run:
        return self.client.get_run(run_id)

    def runs(self) -> dict[str, Run]:
        """Return every run by its id."""
        return {run.info.run_id: run for run in self.client.search_runs([self.experiment])}

    def new_runs(self, before: Mapping[str, Run]) -> list[Run]:
        """Return the runs that did not exist before."""
        return [run for run_id, run in self.runs().items() if run_id not in before]

    def of(self, stage: str) -> list[Run]:
        """Return the runs with a stage's tag."""
        return [run for run in self.runs().values() if stage_of(run) == stage]

    def artifacts(self, run_id: str, folder: str = "") -> set[str]:
        """Return the paths of all files that a run logged."""
        found = set()
        for each in self.client.list_artifacts(run_id, folder):
            found |= self.artifacts(run_id, each.path) if each.is_dir else {each.path}
        return found

    def artifact(self, run_id: str, path: str) -> Path:
        """Return a copy that stays as long as the place."""
        copy = self.folder / "downloads" / run_id
        copy.mkdir(parents=True, exist_ok=True)
        return Path(self.client.download_artifacts(run_id, path, str(copy)))


@dataclass(frozen=True)
class FinishedMain:
    """A place where `main` has run once; tests must only read from it."""

    place: Place
    config: StageConfig
    run_id: str

    def upstream(self, stage: str) -> str:
        """Return the id of the run of a stage on which main is based."""
        return self.place.run(self.run_id).data.tags[f"sensai.upstream.{stage}"]


def run_main(place: Place) -> FinishedMain:
    """Run `main` on the tiny data."""
    from sensai.stages import main

    config = place.config("main")
    with place.active():
        return FinishedMain(place, config, main.run(config))


@dataclass(frozen=True)
class Pruned:
    """A place where `prune` has run from an empty store."""

    place: Place
    run_id: str

    def upstream(self, stage: str) -> str:
        """The id of the run of a stage that the pruning stands on."""
        return self.place.run(self.run_id).data.tags[f"sensai.upstream.{stage}"]


def run_prune(place: Place) -> Pruned:
    """Run `prune` on the tiny data."""
    from sensai.stages import prune

    with place.active():
        return Pruned(place, prune.run(place.config("prune")))


def stage_of(run: Run) -> str:
    return run.data.tags.get("sensai.stage", "")


def parent_of(run: Run) -> str | None:
    return run.data.tags.get("mlflow.parentRunId")
