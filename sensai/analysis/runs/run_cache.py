"""Finished runs are kept in files on this machine, and only what is new is read from the tracking store.

The files lie in `SENSAI_CACHE`, else in `sensai` below `XDG_CACHE_HOME` or `~/.cache`: one for each store and filter, named by
their hash (so that no password of a URI is written down). They may be removed at any time. A file is a SHA-256 digest and
the Parquet table that it is of. Where the digest is not that of the table, everything is read anew.
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

# Raised whenever what is in a file changes its form or meaning.
_FORMAT = 3
# Clocks of machines differ a little, and last values may come a moment after the end.
_OVERLAP_MS = 60 * 1000
# Longer than another process needs for some 10,000 runs; it may also be one that was stopped.
_WAIT_SECONDS = 60


@dataclass(frozen=True, eq=False)
class _Snapshot:
    """What a query gave.

    Attributes:
        runs: as `run_frame` has them.
        experiments: as they were, id -> when it was made.
        trash: ids of the runs that it would have given if they were not deleted.
    """

    runs: pd.DataFrame
    experiments: Mapping[str, int | None]
    trash: frozenset[str]

    def is_like(self, other: "_Snapshot | None") -> bool:
        """Whether another says the same."""
        if other is None or (self.experiments, self.trash) != (other.experiments, other.trash):
            return False
        return self.runs.equals(other.runs)


def finished_runs(client: MlflowClient, condition: str, *, fresh: bool = False) -> pd.DataFrame:
    """The finished runs for which a filter holds: what has been read before and what has ended since.

    Runs that have ended, were deleted, restored or went on since are noticed, and so is another store in the place of the
    one that was read. Two things are not:
    - what was changed on a finished run without ending it anew: its name, tags or metrics;
    - as many runs brought in with an end over a minute before that of the newest (as imports do) as were purged (`mlflow gc`),
      both since the last reading.

    Time grows with what is new and with the deleted runs that have not been purged.

    Args:
        client: of the store.
        condition: a filter on tags that no stage changes after a run has ended.
        fresh: read everything, and keep that.

    Returns:
        As `run_frame` has them, newest first.
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
    # A run restored since the trash was read is in both, which the next reading notices.
    return _Snapshot(run_frame(query.runs()), query.experiments, trash)


def _brought_up_to_date(kept: _Snapshot | None, query: Query, trash: frozenset[str]) -> _Snapshot | None:
    """What was kept without what is gone and with what is new, or nothing where that does not add up to what the store has."""
    if kept is None:
        return None
    same = {each for each, made in kept.experiments.items() if query.experiments.get(each, -1) == made}
    runs = selected(kept.runs, kept.runs["experiment_id"].isin(same) & ~kept.runs["run_id"].isin(trash))
    last_end = runs["end"].max()
    # What has left the trash was purged or restored: an old run that ended before what is asked for as new. And whether a
    # metric without a number was logged as NaN by those that are left, the store knows.
    if pd.isna(last_end) or not kept.trash <= trash or len(metrics(runs).columns) < len(metrics(kept.runs).columns):
        return None
    with ThreadPoolExecutor(1) as beside:
        # Both make the store go through all runs. Mostly nothing is new, and the first answer is the last.
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
    except MlflowException:  # a server that numbers its pages otherwise
        return False


def _folder() -> Path:
    given = os.environ.get("SENSAI_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sensai"


def _store(uri: str) -> str:
    """A store's URI, of a file wherever the process stands."""
    if uri.startswith("sqlite"):
        return str(Path(make_url(uri).database or "").resolve())
    return uri if "://" in uri else str(Path(uri).resolve())


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other process reads for this file meanwhile: it finds here what this one has read."""
    with ExitStack() as held:
        # Where it matters, keeping will say so.
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
            # Parquet has check sums for pages alone: a damaged footer may still be read, as other values.
            temporary.write_bytes(_digest_of(content) + content)
    except (OSError, StorageError) as error:
        warnings.warn(f"run tables are not kept for the next time: {error}; set SENSAI_CACHE", stacklevel=2)


def _load(path: Path) -> _Snapshot | None:
    """Return what was kept; None where there is no file, or none that is whole and of this form."""
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
    """The digest of a table in this form; another version of pandas may give other types back."""
    return hashlib.sha256(f"{_FORMAT} {pd.__version__}\n".encode() + content).digest()
