"""One MLflow run: everything that is logged into it goes through here, with an explicit client and run id."""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from sqlalchemy.exc import SQLAlchemyError

from analysis import tags
from sensai.errors import EndedEarlyError
from sensai.files import storage_error, temporary_folder, writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)

_LONGEST_PARAM = 6000
_LONGEST_REASON = 1000
# One thread for all runs: of a thousand members that end an epoch at once most would wait in vain for one of a database's few
# connections. MLflow's own asynchronous queue belongs to the whole store, and ending any run waits a second for it.
_WRITER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sensai-epochs")


@dataclass
class Run:
    """A run that is being written.

    Attributes:
        client: the store's client.
        id: run id.
        adopted: it was opened by `mlflow run`, which has already logged the parameters.
    """

    client: MlflowClient
    id: str
    adopted: bool = False
    _pending: list[Future[object]] = field(default_factory=list)
    _ended: bool = False

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log values at once, in one call."""
        self.client.log_batch(self.id, metrics=_metrics(metrics, step))

    def log_epoch(self, metrics: Mapping[str, float], epoch: int) -> None:
        """Queue an epoch's values, in one call off this thread; `closing` waits for them."""
        self._pending.append(_WRITER.submit(self.client.log_batch, self.id, metrics=_metrics(metrics, epoch)))

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters, unless MLflow has done so."""
        if not self.adopted:
            entries = [
                Param(key, "" if value is None else str(value)[:_LONGEST_PARAM]) for key, value in params.items()
            ]
            self.client.log_batch(self.id, params=entries)

    def describe(self, text: str | None) -> None:
        """Have the UI show a docstring as the run's description, where a line break would be one."""
        paragraphs = (" ".join(each.split()) for each in (text or "").split("\n\n"))
        self.set_tags({tags.NOTE: "\n\n".join(paragraphs)})

    def set_tags(self, values: Mapping[str, str]) -> None:
        """Set tags, in one call."""
        self.client.log_batch(self.id, tags=[RunTag(key, value) for key, value in values.items()])

    def set_name(self, name: str) -> None:
        """Name the run as the UI shows it."""
        self.set_tags({MLFLOW_RUN_NAME: name})

    def log_json(self, content: Any, path: str) -> None:
        """Log a JSON artifact."""
        self.log_text(json.dumps(content, indent=2, default=str), path)

    def log_frame(self, frame: pd.DataFrame, path: str) -> None:
        """Log a table as CSV."""
        self.log_text(frame.to_csv(index=False), path)

    def log_text(self, text: str, path: str) -> None:
        """Log a text artifact."""
        with self._file(path) as file:
            file.write_text(text, encoding="utf-8")

    def log_figure(self, figure: "Figure", path: str) -> None:
        """Log a figure."""
        with self._file(path) as file:
            figure.savefig(file)

    def log_file(self, path: Path) -> None:
        """Log a file under its own name."""
        with self._artifacts():
            self.client.log_artifact(self.id, str(path))

    def log_folder(self, folder: Path, path: str) -> None:
        """Log everything in a folder below `path`."""
        with self._artifacts():
            self.client.log_artifacts(self.id, str(folder), path)

    @contextmanager
    def _file(self, path: str) -> Iterator[Path]:
        """A file of TMPDIR that is logged under `path` when the block ends: of the two places one may be full."""
        with temporary_folder() as folder:
            file = folder / PurePosixPath(path).name
            yield file
            below = str(PurePosixPath(path).parent)
            with self._artifacts():
                self.client.log_artifact(self.id, str(file), None if below == "." else below)

    @contextmanager
    def _artifacts(self) -> Iterator[None]:
        """Within the block artifacts are written, of which MLflow does not say where they lie."""
        try:
            yield
        except Exception as error:
            if storage_error(error) is None:
                raise
            with writing(local_file_uri_to_path(self.client.get_run(self.id).info.artifact_uri)):
                raise

    @contextmanager
    def closing(self) -> Iterator["Run"]:
        """End the run with the block: FINISHED, FAILED with the reason as a tag, or KILLED when interrupted or given up.

        Blocks may be nested; the innermost one ends the run.
        """
        with self.failing():
            yield self
        self._end(RunStatus.FINISHED)

    @contextmanager
    def failing(self) -> Iterator["Run"]:
        """End the run with the block only where that fails, as `closing` does."""
        try:
            yield self
            for written in self._pending:
                written.result()
        except (KeyboardInterrupt, SystemExit):
            self._end(RunStatus.KILLED, "interrupted")
            raise
        except EndedEarlyError as error:
            self._end(RunStatus.KILLED, str(error))
            raise
        except BaseException as error:
            told = storage_error(error, database=self.client.tracking_uri) or error
            with _store_may_fail():
                self._end(RunStatus.FAILED, f"{type(told).__name__}: {told}")
            if told is error:
                raise
            raise told from error

    def _end(self, status: int, reason: str = "") -> None:
        if self._ended:
            return
        self._ended = True
        wait(self._pending)
        if reason:
            self.set_tags({tags.FAILURE: reason[:_LONGEST_REASON]})
        self.client.set_terminated(self.id, RunStatus.to_string(status))


@contextmanager
def _store_may_fail() -> Iterator[None]:
    """What a run failed by is to be told, also where that can no longer be logged: its disk may be full too."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        _log.warning("the run could not be ended in the store: %s", next(iter(str(error).splitlines()), ""))


def _metrics(metrics: Mapping[str, float], step: int) -> list[Metric]:
    now = int(time.time() * 1000)
    return [Metric(key, float(value), now, step) for key, value in metrics.items()]
