"""Databases whose tables are made once, whichever of several processes comes first, and whenever one is killed meanwhile.

Libraries make their tables at the first connection, one after another: two processes get into each other's way, and one that is
killed leaves some of them.

- SQLite: one process makes them, under a lock, in a file of another name, which gets its own when it is whole.
- PostgreSQL: one process makes them, under an advisory lock of the database, which ends with the process.
- Other databases, and those in memory, are left to the library.
"""

import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import sqlalchemy
from alembic.util import CommandError
from filelock import FileLock, Timeout
from sqlalchemy import Connection, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

_log = logging.getLogger("sensai.first_contact")

# Tables of alembic, which all libraries share, and tables that it copies while it changes them.
_VERSIONS = "alembic_version"
_ALEMBIC = ("alembic_", "_alembic_")
# Whoever else makes tables in the same file shows it at least so often, also on a busy machine.
_SILENT_SECONDS = 15.0
_SECONDS_BETWEEN_LOOKS = 0.25
# Before a process says that it waits for another.
_PATIENT_SECONDS = 2.0
_CONNECT_SECONDS = 10
_LOCKED_SECONDS = 60
_SQLITE_PATH_BYTES = 512


class UnusableDatabaseError(RuntimeError):
    """A database that cannot be used as it is; the message says why, and what to do."""


@dataclass(frozen=True)
class Tables:
    """The tables that a library keeps in a database.

    Attributes:
        owner: name of the library.
        names: returns the names of tables that must be there.
        are_finished: returns whether the library has done all that it does when it makes them, once these are there.
        make: creates or upgrades them in the database of a URL, and closes its connections.
        resumes: it goes on from half-made tables of a SQLite file, too.
    """

    owner: str
    names: Callable[[], set[str]]
    are_finished: Callable[[Connection], bool]
    make: Callable[[str], None]
    resumes: bool


def prepare(url: str, tables: Tables) -> None:
    """Make a library's tables in a database that has none.

    Args:
        url: of SQLAlchemy; nothing is done where it is none, or of a database that only the library knows.
        tables: of the library.

    Raises:
        UnusableDatabaseError: the database does not answer, its tables are half-made, or are those of something else.
    """
    path = sqlite_path(url)
    try:
        if path is not None:
            _prepare_file(path, url, tables)
        elif url.startswith("postgresql"):
            _prepare_server(url, tables)
    except (SQLAlchemyError, CommandError, ImportError, OSError) as error:
        raise UnusableDatabaseError(_reason(error, path)) from error


def sqlite_path(url: str) -> Path | None:
    """Return the file that a SQLite URL names, decoded; None: it is of another database, or in memory."""
    if not url.startswith("sqlite"):
        return None
    try:
        database = make_url(url).database
    except ArgumentError:
        return None
    in_memory = not database or database == ":memory:" or database.startswith("file:")
    return None if in_memory or database is None else Path(database).absolute()


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file with any characters in its path.

    It names the driver, since MLflow makes the folder of a shorter URL as it is written, with its percent signs.
    """
    return f"sqlite+pysqlite:///{quote(str(path))}"


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    try:
        return make_url(url).render_as_string(hide_password=True) if "@" in url else url
    except (ArgumentError, ValueError):
        scheme, _, rest = url.rpartition("@")
        return f"{scheme.partition('://')[0]}://***@{rest}"


def _prepare_file(path: Path, url: str, tables: Tables) -> None:
    if path.exists() and _is_made(sqlite_url(path), tables):
        return
    if not os.access(path.parent, os.W_OK):
        raise UnusableDatabaseError(f"the folder {str(path.parent)!r} does not exist or is not writable")
    # The names are short, since that of the database may be as long as names can be.
    prefix = f".{sha256(path.name.encode()).hexdigest()[:12]}"
    lock, new = path.with_name(f"{prefix}.lock"), path.with_name(f"{prefix}.new")
    with _locked(lock, path):
        if not path.exists():
            _make_file(new, path, tables)
        elif not _is_made(sqlite_url(path), tables):
            _complete_file(path, url, tables)
        # Whoever waits for this very file finds the tables made.
        lock.unlink(missing_ok=True)


@contextmanager
def _locked(lock: Path, path: Path) -> Iterator[None]:
    own = FileLock(lock)
    try:
        own.acquire(timeout=_PATIENT_SECONDS)
    except Timeout:
        _log.warning("waiting for another process, which makes the tables of %s", path)
        own.acquire()
    try:
        yield
    finally:
        own.release()


def _make_file(new: Path, path: Path, tables: Tables) -> None:
    """Make a database under another name and give it its own, unless there is one by then."""
    _remove(new)
    try:
        # What cannot be opened is known at once: MLflow tries again for minutes.
        with _connected(sqlite_url(new)):
            pass
        tables.make(sqlite_url(new))
        try:
            path.hardlink_to(new)
        except FileExistsError:
            # Made by a process that knows nothing of the lock.
            _wait_until_made(path, tables)
    finally:
        _remove(new)


def _remove(database: Path) -> None:
    for ending in ("", "-journal", "-wal", "-shm"):
        database.with_name(database.name + ending).unlink(missing_ok=True)


def _complete_file(path: Path, url: str, tables: Tables) -> None:
    """Make or upgrade tables in a file that is there."""
    with _connected(sqlite_url(path)) as connection:
        _refuse_foreign(connection, tables)
        empty, filled = not _names(connection), _filled(connection)
    # One without any table was made by `touch`. One with rows is of an older version of the library, which upgrades it.
    if empty or filled or tables.resumes:
        tables.make(url)
    else:
        _wait_until_made(path, tables)


def _wait_until_made(path: Path, tables: Tables) -> None:
    """Wait for a process that makes tables without the lock, as `mlflow run` does, as long as it makes progress.

    Raises:
        UnusableDatabaseError: nobody does.
    """
    seen, since = None, time.monotonic()
    said = False
    while not _is_made(sqlite_url(path), tables):
        state = path.stat().st_mtime_ns
        if state != seen:
            seen, since = state, time.monotonic()
        elif time.monotonic() - since > _SILENT_SECONDS:
            raise UnusableDatabaseError(
                f"the tables of {tables.owner} in it are half-made, since the process that made them was ended; nothing is in "
                f"them yet: remove the file (rm {shlex.quote(str(path))}) and start again"
            )
        elif not said and time.monotonic() - since > _PATIENT_SECONDS:
            said = True
            _log.warning("waiting for whoever makes the tables of %s", path)
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _prepare_server(url: str, tables: Tables) -> None:
    if _is_made(url, tables):
        return
    with _connected(url) as lock:
        _acquire(lock, tables, url)
        if _is_made(url, tables):
            return
        with _connected(url) as connection:
            _refuse_foreign(connection, tables)
        try:
            tables.make(url)
        except Exception:
            # A process that knows nothing of the lock may have been first.
            if not _is_made(url, tables):
                raise


def _acquire(connection: Connection, tables: Tables, url: str) -> None:
    """Take the lock of a library's tables, which is released with the connection's transaction."""
    key = {"key": int.from_bytes(sha256(f"sensai {tables.owner}".encode()).digest()[:7])}
    if connection.execute(sqlalchemy.text("SELECT pg_try_advisory_xact_lock(:key)"), key).scalar():
        return
    _log.warning("waiting for another process, which makes the tables of %s", without_password(url))
    connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), key)


def _is_made(url: str, tables: Tables) -> bool:
    with _connected(url) as connection:
        return tables.names() <= _names(connection) and tables.are_finished(connection)


def _refuse_foreign(connection: Connection, tables: Tables) -> None:
    """Refuse a database of another library: both would write their version into one table of Alembic.

    Raises:
        UnusableDatabaseError: it is one.
    """
    there = _names(connection)
    if _VERSIONS not in there or (tables.names() - {_VERSIONS}) & there:
        return
    if connection.execute(sqlalchemy.text(f"SELECT 1 FROM {_VERSIONS}")).first():  # noqa: S608  (a constant)
        some = ", ".join(sorted(name for name in there if not name.startswith(_ALEMBIC))[:3])
        raise UnusableDatabaseError(
            f"holds the tables of something else ({some}, ...); {tables.owner} needs a database of its own"
        )


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    """A connection of its own, which holds nothing when the block ends."""
    parsed = make_url(url)
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=_limits(parsed))
    with engine.connect() as connection:
        yield connection


def _limits(url: URL) -> dict[str, int]:
    """What a driver is told of how long to wait, where the URL does not say it."""
    if url.get_backend_name() == "sqlite":
        return {"timeout": _LOCKED_SECONDS}
    known = url.get_driver_name() in ("psycopg", "psycopg2")
    return {"connect_timeout": _CONNECT_SECONDS} if known and "connect_timeout" not in url.query else {}


def _names(connection: Connection) -> set[str]:
    return set(sqlalchemy.inspect(connection).get_table_names())


def _filled(connection: Connection) -> bool:
    """Return whether any table has a row, those of alembic apart."""
    quoted = connection.dialect.identifier_preparer.quote
    return any(
        connection.execute(sqlalchemy.text(f"SELECT 1 FROM {quoted(name)} LIMIT 1")).first()  # noqa: S608  (its own names)
        for name in _names(connection)
        if not name.startswith(_ALEMBIC)
    )


def _reason(error: Exception, path: Path | None) -> str:
    """Say in one line why a database cannot be opened."""
    origin = getattr(error, "orig", None) or error
    reason = " ".join(str(origin).split())
    length = len(os.fsencode(path)) if path else 0
    if length > _SQLITE_PATH_BYTES:
        reason += f" (its path has {length} bytes, and SQLite opens paths of up to {_SQLITE_PATH_BYTES})"
    return reason
