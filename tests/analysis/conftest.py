"""Runs as the stages log them, without running a stage."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import mlflow
import pytest


@dataclass
class Logbook:
    """A store into which whole runs are written at once; every run starts a second after the one before."""

    client: mlflow.MlflowClient
    experiment: str
    _clock: list[int] = field(default_factory=lambda: [1_700_000_000_000])

    def skip(self, milliseconds: int) -> None:
        """Let the next run start so much later."""
        self._clock[0] += milliseconds

    def run(
        self,
        tags: Mapping[str, str],
        metrics: Mapping[str, float] | None = None,
        *,
        name: str = "a run",
        status: str = "FINISHED",
        experiment: str | None = None,
    ) -> str:
        """Log a run with tags (below `sensai.`) and metrics."""
        self._clock[0] += 1000
        run_id = self.client.create_run(
            experiment or self.experiment,
            start_time=self._clock[0],
            run_name=name,
            tags={key if key.startswith("mlflow.") else f"sensai.{key}": value for key, value in tags.items()},
        ).info.run_id
        for key, value in (metrics or {}).items():
            self.client.log_metric(run_id, key, value)
        if status != "RUNNING":
            self.client.set_terminated(run_id, status, end_time=self._clock[0] + 500)
        return run_id


@pytest.fixture
def logbook(store_uri: str) -> Logbook:
    client = mlflow.MlflowClient(store_uri)
    return Logbook(client, client.get_experiment_by_name("test").experiment_id)
