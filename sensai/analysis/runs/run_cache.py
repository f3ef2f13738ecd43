"""A cache of finished runs in files on this machine: only new runs are read from the tracking store.

The files lie in `SENSAI_CACHE`, else in `sensai` below `XDG_CACHE_HOME` or `~/.cache`. There is one for each store and filter.
Its name is a hash of both, so that no password of a URI is written down. Files may be removed at any time. A file is a
Parquet table behind its SHA-256 digest. If the digest does not match the table, everything is read anew.
"""

import hashlib
import io
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import make_url

from sensai.analysis.runs.frames import COLUMNS, metrics, run_frame, selected, updated
from sensai.analysis.runs.queries import FINISHED, Query
from sensai.errors import StorageError
from sensai.files import whole_file
from sensai.locks import locked

# This number rises with every change in the form or meaning of a file's content.
_FORMAT = 3
# The last minute is read again: clocks differ a little, and last values may come a moment after the end.
_OVERLAP_MS = 60 * 1000
# Another process needs less for some 10,000 runs. The wait ends, because that process may also be suspended.
_WAIT_SECONDS = 60


@dataclass(frozen=True, eq=False)
class _Snapshot:
    """The answer of a store to a query.

    Attributes:
        runs: as `run_frame` returns them.
        experiments: id -> time of creation, when the store answered.
        trash: ids of the deleted runs for which the filter holds.
    """

    runs: pd.DataFrame
    experiments: Mapping[str, int | None]
    trash: frozenset[str]

    def is_like(self, other: "_Snapshot | None") -> bool:
        """Return True if another snapshot has the same content."""
        if other is None or (self.experiments, self.trash) != (other.experiments, other.trash):
            return False
        return self.runs.equals(other.runs)


def finished_runs(client: MlflowClient, condition: str, *, fresh: bool = False) -> pd.DataFrame:
    """Return the finished runs for which a filter holds: the kept ones and those that have ended since.

    Runs that have ended, were deleted, were restored or went on since the last reading are noticed. So is another store in the
    place of the one that was read. Two changes are not noticed:
    - a changed name, tag or metric of a finished run that did not end anew;
    - imported runs, if as many runs were purged (`mlflow gc`) since the last reading and the imported ones ended over a
      minute before the newest run.

    The time grows with the new runs and with the deleted runs that are not purged.

    Args:
        client: of the store.
        condition: a filter on tags that no stage changes after a run has ended.
        fresh: read all runs anew, and keep them.

    Returns:
        A frame as of `run_frame`, newest first.
    """
    query = Query.to(client, f"{condition} and {FINISHED}")
    path = _folder() / f"{_digest(_store(client.tracking_uri), condition)}.parquet"
    with _alone(path):
        with ThreadPoolExecutor(1) as beside:
            asked = beside.submit(_trash, query)
            kept = None if fresh else _load(path)
            trash = asked.result()
        snapshot = _brought_up_to_date(kept, query, trash) or _read(query, trash)
        if not snapshot.is_like(kept):
            _keep(snapshot, path)
    return snapshot.runs


def _read(query: Query, trash: frozenset[str]) -> _Snapshot:
    # A run that is restored after the trash was read is in both. The next reading notices that.
    return _Snapshot(run_frame(query.runs()), query.experiments, trash)


def _brought_up_to_date(kept: _Snapshot | None, query: Query, trash: frozenset[str]) -> _Snapshot | None:
    """Return a snapshot without the runs that are gone and with new ones; None: it does not add up to the store's runs."""
    if kept is None:
        return None
    same = {each for each, made in kept.experiments.items() if query.experiments.get(each, -1) == made}
    runs = selected(kept.runs, kept.runs["experiment_id"].isin(same) & ~kept.runs["run_id"].isin(trash))
    last_end = runs["end"].max()
    # A run that has left the trash was purged or restored. A restored one ended too early to be found among the new ones.
    # If no remaining run has a number for a metric, only the store knows if one of them logged it as NaN.
    if pd.isna(last_end) or not kept.trash <= trash or len(metrics(runs).columns) < len(metrics(kept.runs).columns):
        return None
    with ThreadPoolExecutor(1) as beside:
        # Both queries go through all runs, so they run side by side. Mostly nothing is new, and one count is enough.
        complete = beside.submit(_are, query, len(runs))
        newest = query.runs(f"attributes.end_time >= {last_end - _OVERLAP_MS}")
    found = updated(runs, run_frame(newest))
    adds_up = complete.result() if len(found) == len(runs) else _are(query, len(found))
    return _Snapshot(found, query.experiments, trash) if adds_up else None


def _trash(query: Query) -> frozenset[str]:
    return frozenset(run.run_id for run in query.runs(view=ViewType.DELETED_ONLY))


def _are(query: Query, number: int) -> bool:
    try:
        return query.has_exactly(number)
    except MlflowException:  # The server has page tokens of another form.
        return False


def _folder() -> Path:
    given = os.environ.get("SENSAI_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sensai"


def _store(uri: str) -> str:
    """Return a store's URI; that of a file does not depend on the working directory."""
    if uri.startswith("sqlite"):
        return str(Path(make_url(uri).database or "").resolve())
    return uri if "://" in uri else str(Path(uri).resolve())


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock of a file: another process waits, and then finds what this one has read."""
    with ExitStack() as held:
        # If the folder cannot be written to, `_keep` warns of it.
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            held.enter_context(locked(path.with_suffix(".lock"), "reading run tables", _WAIT_SECONDS))
        yield


def _keep(snapshot: _Snapshot, path: Path) -> None:
    frame = snapshot.runs.copy(deep=False)
    frame.attrs = {
        "experiments": dict(snapshot.experiments),
        "trash": sorted(snapshot.trash),
    }
    content = frame.to_parquet(index=False, compression="zstd")
    try:
        with whole_file(path) as temporary:
            # Parquet has check sums for its pages only. A damaged footer may be read as other values.
            temporary.write_bytes(_digest_of(content) + content)
    except (OSError, StorageError) as error:
        warnings.warn(f"run tables are not kept for the next time: {error}; set SENSAI_CACHE", stacklevel=2)


def _load(path: Path) -> _Snapshot | None:
    """Return the kept snapshot; None: there is no file, or it is damaged or of another form."""
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    content = stored[hashlib.sha256().digest_size :]
    if stored != _digest_of(content) + content:
        return None
    frame = pd.read_parquet(io.BytesIO(content))
    attributes, frame.attrs = frame.attrs, {}
    return _Snapshot(frame.astype(COLUMNS), attributes["experiments"], frozenset(attributes["trash"]))


def _digest_of(content: bytes) -> bytes:
    """Return the digest of a table, its form and the version of pandas, as another version may return other types."""
    return hashlib.sha256(f"{_FORMAT} {pd.__version__}\n".encode() + content).digest()
