"""Artifacts of runs as files on this machine."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow.artifacts

from analysis.tracking_store import ready


@contextmanager
def downloaded(run_id: str, path: str, tracking_uri: str | None = None) -> Iterator[Path]:
    """A file or folder that a run logged, to be read within the block: MLflow makes a copy each time, and removes none.

    Args:
        run_id: any run.
        path: below the run's artifacts.
        tracking_uri: of the store that holds the run; None: the one that MLflow is set to.

    Raises:
        MlflowException: there is no such run, or it has no such artifact.
    """
    with tempfile.TemporaryDirectory() as folder:
        yield Path(
            mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=path, dst_path=folder, tracking_uri=ready(tracking_uri)
            )
        )
