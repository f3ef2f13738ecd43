"""Finished runs are kept in Parquet files on this machine, and only what is new is read from the tracking store.

The files lie in `SENSAI_CACHE`, else in `sensai` below `XDG_CACHE_HOME` or `~/.cache`: one for each store and filter, named by
their hash (so that no password of a URI is written down). They may be removed at any time.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from filelock import FileLock
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.engine import make_url

from analysis.files import whole_file
from analysis.runs.logged import FINISHED, LoggedRun, Query

# Raised whenever what is in a file changes its form or meaning.
_FORMAT = 1
_COLUMNS = {
    **dict.fromkeys(("run_id", "experiment_id", "name", "status"), "str"),
    "start": "int64",
    "end": "Int64",
    **dict.fromkeys(("config", "tags", "metrics"), "str"),
}
# Clocks of machines differ a little, and last values may come a moment after the end.
_OVERLAP_MS = 60 * 1000
# Longer than another process needs for some 10,000 runs; it may also be one that was stopped.
_WAIT_SECONDS = 60


@dataclass(frozen=True)
class _Snapshot:
    """What a query gave.

    Attributes:
        runs: by their ids.
        experiments: as they were, id -> when it was made.
        trash: ids of the runs that it would have given if they were not deleted.
    """

    runs: Mapping[str, LoggedRun]
    experiments: Mapping[str, int | None]
    trash: frozenset[str]


def finished_runs(client: MlflowClient, condition: str, *, fresh: bool = False) -> list[LoggedRun]:
    """The finished runs for which a filter holds, newest first: what has been read before and what has ended since.

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
    """
    query = Query.to(client, f"{condition} and {FINISHED}")
    path = _folder() / f"{_digest(_store(client.tracking_uri), condition)}.parquet"
    with _alone(path):
        kept = None if fresh else _load(path)
        snapshot = _brought_up_to_date(kept, query) or _read(query)
        if snapshot != kept:
            _keep(snapshot, path)
    return sorted(snapshot.runs.values(), key=lambda run: (-run.start, run.run_id))


def _read(query: Query) -> _Snapshot:
    # In this order, a run restored between the two is in both, which the next reading notices.
    trash = _trash(query)
    return _Snapshot({run.run_id: run for run in query.runs()}, query.experiments, trash)


def _brought_up_to_date(kept: _Snapshot | None, query: Query) -> _Snapshot | None:
    """What was kept without what is gone and with what is new, or nothing where that does not add up to what the store has."""
    if kept is None:
        return None
    trash = _trash(query)
    same = {each for each, made in kept.experiments.items() if query.experiments.get(each, -1) == made}
    runs = {run_id: run for run_id, run in kept.runs.items() if run.experiment_id in same and run_id not in trash}
    ends = [run.end for run in runs.values() if run.end is not None]
    # What has left the trash was purged or restored: an old run that ended before what is asked for as new.
    if not ends or not kept.trash <= trash:
        return None
    with ThreadPoolExecutor(1) as beside:
        # Both make the store go through all runs. Mostly nothing is new, and the first answer is the last.
        complete = beside.submit(_are, query, len(runs))
        newest = {run.run_id: run for run in query.runs(f"attributes.end_time >= {max(ends) - _OVERLAP_MS}")}
    found = runs | newest
    adds_up = complete.result() if len(found) == len(runs) else _are(query, len(found))
    return _Snapshot(found, query.experiments, trash) if adds_up else None


def _trash(query: Query) -> frozenset[str]:
    return frozenset(run.run_id for run in query.runs(view=ViewType.DELETED_ONLY))


def _are(query: Query, number: int) -> bool:
    try:
        return query.are(number)
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
    lock = FileLock(path.with_suffix(".lock"), timeout=_WAIT_SECONDS)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire()
    except OSError:  # where it matters, keeping will say so
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _keep(snapshot: _Snapshot, path: Path) -> None:
    rows = list(snapshot.runs.values())
    columns = {name: [getattr(run, name) for run in rows] for name in _COLUMNS}
    columns |= {name: [json.dumps(value) for value in columns[name]] for name in ("tags", "metrics")}
    frame = pd.DataFrame(columns).astype(_COLUMNS)
    frame.attrs = {"format": _FORMAT, "experiments": dict(snapshot.experiments), "trash": sorted(snapshot.trash)}
    try:
        with whole_file(path) as temporary:
            frame.to_parquet(temporary, index=False, compression="zstd", write_page_checksum=True)
    except OSError as error:
        warnings.warn(f"run tables are not kept for the next time: {error}; set SENSAI_CACHE", stacklevel=2)


def _load(path: Path) -> _Snapshot | None:
    """What was kept, or nothing where there is no file, or none that is whole and of this form."""
    try:
        frame = pd.read_parquet(path, page_checksum_verification=True)
        if frame.attrs["format"] != _FORMAT:
            return None
        columns = {name: frame[name].tolist() for name in _COLUMNS}
        columns["end"] = [None if each is pd.NA else each for each in columns["end"]]
        # All at once takes a fraction of the time.
        columns |= {name: json.loads(f"[{','.join(columns[name])}]") for name in ("tags", "metrics")}
        runs = [LoggedRun(*values) for values in zip(*columns.values(), strict=True)]
        attributes = frame.attrs
        return _Snapshot({run.run_id: run for run in runs}, attributes["experiments"], frozenset(attributes["trash"]))
    except (OSError, ValueError, LookupError, TypeError):  # pyarrow's own errors are such
        return None
