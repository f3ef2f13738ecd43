"""One MLflow run: everything that is logged into it goes through here, with an explicit client and run id."""

import io
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.entities import Metric, RunStatus
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

from analysis import tags
from sensai.errors import EndedEarlyError
from sensai.tracking.buffer import Entries, LogBuffer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)

_LONGEST_PARAM = 6000
_LONGEST_REASON = 1000


@dataclass
class Run:
    """A run that is being written.

    What is logged waits for a while and is sent together with what follows: at most every 15 s, and at the run's end, however
    that comes about.

    Attributes:
        client: the store's client.
        id: run id.
        adopted: it was opened by `mlflow run`, which has already logged the parameters.
        artifact_uri: where its artifacts lie; empty: the store is asked.
    """

    client: MlflowClient
    id: str
    adopted: bool = False
    artifact_uri: str = field(default="", repr=False, compare=False)
    _buffer: LogBuffer = field(init=False, repr=False, compare=False)
    _ended: bool = False

    def __post_init__(self) -> None:
        self._buffer = LogBuffer(self.client, self.id, self.artifact_uri)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log values, all with one time."""
        now = int(time.time() * 1000)
        self._buffer.add(Entries(metrics=[Metric(key, float(value), now, step) for key, value in metrics.items()]))

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters, unless MLflow has done so."""
        if not self.adopted:
            texts = {key: "" if value is None else str(value)[:_LONGEST_PARAM] for key, value in params.items()}
            self._buffer.add(Entries(params=texts))

    def describe(self, text: str | None) -> None:
        """Have the UI show a docstring as the run's description, where a line break would be one."""
        paragraphs = (" ".join(each.split()) for each in (text or "").split("\n\n"))
        self.set_tags({tags.NOTE: "\n\n".join(paragraphs)})

    def set_tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        self._buffer.add(Entries(tags=dict(values)))

    def set_name(self, name: str) -> None:
        """Name the run as the UI shows it."""
        self.set_tags({MLFLOW_RUN_NAME: name})

    def log_json(self, content: Any, path: str) -> None:
        """Log a JSON artifact."""
        self.log_text(json.dumps(content, indent=2), path)

    def log_frame(self, frame: pd.DataFrame, path: str) -> None:
        """Log a table as CSV."""
        self.log_text(frame.to_csv(index=False), path)

    def log_text(self, text: str, path: str) -> None:
        """Log a text artifact."""
        self._buffer.add(Entries(files={path: text.encode()}))

    def log_figure(self, figure: "Figure", path: str) -> None:
        """Log a figure as an image of the path's format."""
        image = io.BytesIO()
        figure.savefig(image, format=Path(path).suffix.removeprefix("."))
        self._buffer.add(Entries(files={path: image.getvalue()}))

    def log_folder(self, folder: Path, path: str = "") -> None:
        """Log everything in a folder, to lie below `path`, at once: large files do not wait in memory."""
        self._buffer.upload(folder, path)

    def flush(self) -> None:
        """Send what has been logged so far; it else waits some seconds, or for the run's end.

        Raises:
            MlflowException: the store refuses it.
        """
        self._buffer.flush()

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
            self.flush()
        except (KeyboardInterrupt, SystemExit):
            self._end(RunStatus.KILLED, "interrupted")
            raise
        except EndedEarlyError as error:
            self._end(RunStatus.KILLED, str(error))
            raise
        except BaseException as error:
            self._end(RunStatus.FAILED, f"{type(error).__name__}: {error}")
            raise

    def _end(self, status: int, reason: str = "") -> None:
        if self._ended:
            return
        self._ended = True
        if reason:
            self.set_tags({tags.FAILURE: reason[:_LONGEST_REASON]})
        try:
            self.flush()
        # A run that never ends would be worse.
        except Exception as error:
            _log.warning("run %s: not all of it could be stored: %s", self.id, str(error).partition("\n")[0])
        self.client.set_terminated(self.id, RunStatus.to_string(status))
