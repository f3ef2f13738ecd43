"""Buffer what runs log, and send it in few requests, also while a run is busy."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from weakref import WeakSet

from mlflow.entities import Metric, Param, RunTag
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from sensai.files import storage_error, temporary_folder, writing

# MLflow takes so many values of each kind in one `log_batch`, and so many in all.
_MOST_METRICS = 1000
_MOST_PARAMS = 100
_MOST_TAGS = 100
_MOST_ENTRIES = 1000
_SECONDS_BETWEEN = 15.0

ValueT = TypeVar("ValueT")


@dataclass
class Entries:
    """Values and small files of one run, in the order in which they were logged.

    Attributes:
        metrics: with their times and steps.
        params: name -> text.
        tags: name -> text; a later value replaces an earlier one.
        files: path relative to the run's artifacts -> content.
    """

    metrics: list[Metric] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.metrics or self.params or self.tags or self.files)

    def then(self, later: "Entries") -> "Entries":
        """Return these entries followed by later ones."""
        return Entries(
            self.metrics + later.metrics,
            self.params | later.params,
            self.tags | later.tags,
            self.files | later.files,
        )

    def batches(self) -> Iterator[tuple[Sequence[Metric], Sequence[Param], Sequence[RunTag]]]:
        """Yield everything except the files, in the fewest parts that MLflow takes."""
        params = _parts([Param(*each) for each in self.params.items()], _MOST_PARAMS)
        run_tags = _parts([RunTag(*each) for each in self.tags.items()], _MOST_TAGS)
        metrics = list(self.metrics)
        while params or run_tags or metrics:
            some, more = params.pop(0) if params else [], run_tags.pop(0) if run_tags else []
            room = min(_MOST_ENTRIES - len(some) - len(more), _MOST_METRICS)
            yield metrics[:room], some, more
            metrics = metrics[room:]


def _parts(values: list[ValueT], most: int) -> list[list[ValueT]]:
    return [values[start : start + most] for start in range(0, len(values), most)]


class LogBuffer:
    """The entries of one run that are not yet in the store.

    `flush` sends them, and a thread that all runs of the process share sends them at least every 15 s. If the process is
    killed, the entries of the last 15 s are lost.
    """

    def __init__(self, client: MlflowClient, run_id: str, artifact_uri: str = "") -> None:
        """Create an empty buffer.

        Args:
            client: of the store.
            run_id: of the run.
            artifact_uri: place of its artifacts; empty: the store is asked when it is needed.
        """
        self._client, self._run_id, self._artifact_uri = client, run_id, artifact_uri
        self._repository: ArtifactRepository | None = None
        self._waiting = Entries()
        self._error: Exception | None = None
        # `_guard` protects the waiting entries; `_sending` is held while entries are being sent.
        self._guard, self._sending = threading.Lock(), threading.Lock()

    def add(self, entries: Entries) -> None:
        """Log values and files; they are sent later, in the order of the calls."""
        with self._guard:
            self._waiting = self._waiting.then(entries)
        _FLUSHER.watch(self)

    def flush(self) -> None:
        """Send all waiting entries, and wait for those that are being sent.

        Raises:
            MlflowException: the store refused something, now or since the last call.
        """
        with self._sending:
            self._send()
        self.check()

    def check(self) -> None:
        """Raise the error of the shared thread, if it could not send something.

        Raises:
            MlflowException: the error of the store.
        """
        error, self._error = self._error, None
        if error is not None:
            raise error

    def flush_behind(self) -> None:
        """Send all waiting entries; the next `flush` raises an error of this call."""
        with self._sending:
            try:
                self._send()
            except Exception as error:
                self._error = error

    def upload(self, folder: Path, path: str = "") -> None:
        """Send all files of a folder at once, to a path below the run's artifacts."""
        if self._repository is None:
            uri = self._artifact_uri or self._client.get_run(self._run_id).info.artifact_uri
            self._repository = get_artifact_repository(uri, self._client.tracking_uri)
        try:
            self._repository.log_artifacts(str(folder), path or None)
        except Exception as error:
            if storage_error(error) is None:
                raise
            # MLflow does not name the artifact folder in its error. A server's errors name the server's own disk.
            place = self._repository.artifact_uri
            with writing(local_file_uri_to_path(place) if is_local_uri(place) else place):
                raise

    def _send(self) -> None:
        with self._guard:
            entries, self._waiting = self._waiting, Entries()
        try:
            for metrics, params, run_tags in entries.batches():
                self._client.log_batch(self._run_id, metrics, params, run_tags)
            if entries.files:
                self._upload_files(entries.files)
        except BaseException as error:
            # An interrupt may come at any point, so the entries are kept. What the store refused it would refuse again.
            if not isinstance(error, Exception):
                with self._guard:
                    self._waiting = entries.then(self._waiting)
            raise

    def _upload_files(self, files: dict[str, bytes]) -> None:
        with temporary_folder() as folder:
            for name, content in files.items():
                file = folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            self.upload(folder)


class _Flusher:
    """One thread for all runs, since a thousand threads would mostly wait for one of a database's few connections."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._buffers: WeakSet[LogBuffer] = WeakSet()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, buffer: LogBuffer) -> None:
        """Make the thread send the entries of a buffer in its next round."""
        with self._guard:
            self._buffers.add(buffer)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sensai-log", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(self._seconds)
            with self._guard:
                waiting, self._buffers = list(self._buffers), WeakSet()
            for buffer in waiting:
                buffer.flush_behind()
            del waiting


_FLUSHER = _Flusher(_SECONDS_BETWEEN)
