"""One MLflow run: everything that is logged goes through here, with an explicit client and run id."""

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
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunStatus
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_RUN_NAME

from sensai.errors import EndedEarlyError, described
from sensai.files import storage_error
from sensai.signals import Terminated, call_before_end, requested, shielded
from sensai.tracking import tags
from sensai.tracking.buffer import Entries, LogBuffer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)

_LONGEST_PARAM = 6000
_LONGEST_REASON = 1000
# The UI shows it beside the name.
_DIGEST_CHARACTERS = 12
_INTERRUPTED = "interrupted"
# The open runs of this process, in the order in which they began, and the first of them.
_begun: "dict[str, Run]" = {}
_top: "Run | None" = None


@dataclass
class Run:
    """A run that is being written.

    Entries wait and are sent together: at least every 15 s, and when the run ends for any reason.

    Attributes:
        client: the store's client.
        id: run id.
        logged: names of the parameters that it has already; `mlflow run` logs those that it hands over.
        artifact_uri: place of its artifacts; empty: the store is asked.
    """

    client: MlflowClient
    id: str
    logged: frozenset[str] = frozenset()
    artifact_uri: str = field(default="", repr=False, compare=False)
    _buffer: LogBuffer = field(init=False, repr=False, compare=False)
    _ended: bool = False

    def __post_init__(self) -> None:
        self._buffer = LogBuffer(self.client, self.id, self.artifact_uri)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0, model_id: str | None = None) -> None:
        """Log values, all with the same time; with the id of a logged model also on that model."""
        now = int(time.time() * 1000)
        values = [Metric(key, float(value), now, step, model_id) for key, value in metrics.items()]
        self._buffer.add(Entries(metrics=values))

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log the parameters that the run does not have yet: MLflow refuses another value."""
        missing = {key: value for key, value in params.items() if key not in self.logged}
        texts = {key: "" if value is None else str(value)[:_LONGEST_PARAM] for key, value in missing.items()}
        self._buffer.add(Entries(params=texts))

    def log_dataset(self, name: str, digest: str, place: str, counts: Mapping[str, int], context: str) -> None:
        """Log the data set that the run reads, at once.

        Args:
            name: of the data set.
            digest: of its content, of which the first characters are stored.
            place: its folder, or its name where it has none.
            counts: split -> number of images.
            context: the splits that are read, as the UI shows it.
        """
        source, profile = json.dumps({"uri": place}), json.dumps({"images": dict(counts)})
        dataset = Dataset(name, digest[:_DIGEST_CHARACTERS], "local", source, profile=profile)
        self.client.log_inputs(self.id, [DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])])

    def describe(self, text: str | None) -> None:
        """Set a docstring as the run's description in the UI, where its line breaks would be kept."""
        paragraphs = (" ".join(each.split()) for each in (text or "").split("\n\n"))
        self.set_tags({tags.NOTE: "\n\n".join(paragraphs)})

    def set_tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        self._buffer.add(Entries(tags=dict(values)))

    def set_name(self, name: str) -> None:
        """Set the name of the run in the UI."""
        self.set_tags({MLFLOW_RUN_NAME: name})

    def log_json(self, content: Any, path: str) -> None:
        """Log a JSON artifact."""
        self.log_text(json.dumps(content, indent=2, default=str), path)

    def log_frame(self, frame: pd.DataFrame, path: str) -> None:
        """Log a table as CSV."""
        self.log_text(frame.to_csv(index=False), path)

    def log_text(self, text: str, path: str) -> None:
        """Log a text artifact."""
        self._buffer.add(Entries(files={path: text.encode()}))

    def log_figure(self, figure: "Figure", path: str) -> None:
        """Log a figure as an image in the format of the path."""
        image = io.BytesIO()
        figure.savefig(image, format=Path(path).suffix.removeprefix("."))
        self._buffer.add(Entries(files={path: image.getvalue()}))

    def log_folder(self, folder: Path, path: str = "") -> None:
        """Log everything in a folder at once, to lie below `path`, since large files must not wait in memory."""
        self._buffer.upload(folder, path)

    def flush(self) -> None:
        """Send the entries logged so far; otherwise they wait some seconds or for the run's end.

        Raises:
            MlflowException: the store refuses them.
        """
        self._buffer.flush()

    @contextmanager
    def closing(self) -> Iterator["Run"]:
        """End the run with the block: FINISHED, FAILED with the reason as a tag, or KILLED after an interrupt.

        A run whose work was stopped early for another reason is KILLED too. Blocks may be nested; the innermost one ends
        the run.
        """
        with self.failing():
            yield self
        self._end(RunStatus.FINISHED)

    @contextmanager
    def failing(self) -> Iterator["Run"]:
        """End the run with the block only if that fails, as `closing` does."""
        try:
            yield self
            self.flush()
        except Exception as error:
            reported = storage_error(error, database=self.client.tracking_uri) or error
            self._fail(reported)
            if reported is error:
                raise
            raise reported from error
        except BaseException as error:
            self._fail(error)
            raise

    def begun(self) -> "Run":
        """Register the run to be closed when this process ends normally, and return it."""
        global _top
        if not _begun:
            _top = self
        _begun[self.id] = self
        return self

    def _fail(self, error: BaseException) -> None:
        """End the run without hiding the error that ended it."""
        try:
            self._end(*_ending(error))
        except Exception as failure:
            _warn_of_open(self, failure)

    def _end(self, status: int, reason: str = "") -> None:
        if self._ended:
            return
        self._ended = True
        with shielded():
            self._terminate(status, reason)

    def _terminate(self, status: int, reason: str) -> None:
        if reason:
            self.set_tags({tags.FAILURE: reason[:_LONGEST_REASON]})
        try:
            self.flush()
        # A warning is better than a run that never ends.
        except Exception as error:
            _log.warning("run %s: not all of it could be stored: %s", self.id, str(error).partition("\n")[0])
        self.client.set_terminated(self.id, RunStatus.to_string(status))
        _begun.pop(self.id, None)


def close_begun(error: BaseException | None = None) -> None:
    """Close all open runs of this process, the last first, with the error that ended them; without one, as interrupted.

    A signal may come after a run has begun and before its block.
    """
    status, reason = (RunStatus.KILLED, _INTERRUPTED) if error is None else _ending(error)
    for run in list(_begun.values())[::-1]:
        try:
            # A worker may have ended the run that this process began.
            if run.client.get_run(run.id).info.status == RunStatus.to_string(RunStatus.RUNNING):
                run._terminate(status, reason)
        # The next run may be in another store.
        except Exception as failure:
            _warn_of_open(run, failure)
        _begun.pop(run.id, None)


def _warn_of_open(run: Run, failure: Exception) -> None:
    # The following lines of database errors are the statement.
    reason = next(iter(str(failure).splitlines()), "")
    _log.warning("run %s could not be closed: %s: %s", run.id, type(failure).__name__, reason)


def log_on_top(text: str, path: str) -> None:
    """Log a text artifact into the run that this process was started for, if it has begun one."""
    if _top is not None:
        _top.log_text(text, path)
        _top.flush()


call_before_end(close_begun)


def _ending(error: BaseException) -> tuple[int, str]:
    """Return the status of a run that an exception ends, and the reason."""
    # Some libraries turn the exception of a signal into another one.
    if requested() or isinstance(error, KeyboardInterrupt | Terminated):
        return RunStatus.KILLED, _INTERRUPTED
    if isinstance(error, EndedEarlyError):
        return RunStatus.KILLED, str(error)
    return RunStatus.FAILED, described(error)
