"""Artifacts of runs as files on this machine."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient

from sensai.tracking.tracking_store import ready


@contextmanager
def downloaded(run_id: str, path: str, tracking_uri: str | None = None) -> Iterator[Path]:
    """Yield a local copy of a file or folder that a run logged, and remove it after the block, since MLflow never does.

    Args:
        run_id: any run.
        path: relative to the run's artifacts.
        tracking_uri: of the run's store; None: the current one of MLflow.

    Raises:
        MlflowException: there is no such run.
        Exception: it has no such artifact; the class depends on the artifact store.
    """
    uri = ready(tracking_uri)
    with downloaded_from(_location(run_id, uri), path, uri) as local:
        yield local


@contextmanager
def downloaded_from(artifact_uri: str, path: str, tracking_uri: str) -> Iterator[Path]:
    """Yield the same copy if the place of the run's artifacts is known, which saves a request."""
    # A file takes no time that is worth a bar; the command line sets this for itself.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with tempfile.TemporaryDirectory() as folder:
        yield Path(get_artifact_repository(artifact_uri, tracking_uri).download_artifacts(path, folder))


def artifact_names(run_id: str, tracking_uri: str | None = None) -> set[str]:
    """Return the names of the files and folders at the top of a run's artifacts.

    Raises:
        MlflowException: there is no such run.
    """
    uri = ready(tracking_uri)
    return {each.path for each in get_artifact_repository(_location(run_id, uri), uri).list_artifacts()}


@lru_cache(maxsize=1024)
def _location(run_id: str, tracking_uri: str) -> str:
    """Return the place of a run's artifacts, which never changes."""
    location: str = MlflowClient(tracking_uri).get_run(run_id).info.artifact_uri
    return location
