"""Create the tables of a library in a database once, even if several processes start together or one is killed.

Libraries create their tables one after another at the first connection. Two processes then disturb each other, and a killed
one leaves only some of the tables.

- SQLite: one process creates them under a lock, in a file that gets its final name when it is complete.
- PostgreSQL: one process creates them under an advisory lock of the database, which ends with the process.
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

_log = logging.getLogger("sensai.database_tables")

# All libraries share the tables of alembic; it also copies tables while it changes them.
_VERSIONS = "alembic_version"
_ALEMBIC = ("alembic_", "_alembic_")
# Another process that creates tables in the same file shows progress at least so often, even on a busy machine.
_SILENT_SECONDS = 15.0
_SECONDS_BETWEEN_LOOKS = 0.25
# A process waits so long for another one before it logs that it waits.
_PATIENT_SECONDS = 2.0
_CONNECT_SECONDS = 10
_LOCKED_SECONDS = 60
_SQLITE_PATH_BYTES = 512


class UnusableDatabaseError(RuntimeError):
    """A database that cannot be used as it is; the message has the reason and the remedy."""


@dataclass(frozen=True)
class Tables:
    """The tables that a library keeps in a database.

    Attributes:
        owner: name of the library.
        names: returns the names of the required tables.
        are_finished: returns True if the tables exist and the library has finished its setup.
        make: creates or upgrades the tables in the database of a URL, and closes its connections.
        resumes: `make` can also complete half-made tables of a SQLite file.
    """

    owner: str
    names: Callable[[], set[str]]
    are_finished: Callable[[Connection], bool]
    make: Callable[[str], None]
    resumes: bool


def prepare(url: str, tables: Tables) -> None:
    """Create a library's tables in a database that has none.

    Args:
        url: of SQLAlchemy; other URLs, and databases that only the library knows, are ignored.
        tables: of the library.

    Raises:
        UnusableDatabaseError: the database does not answer, its tables are half-made, or belong to something else.
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
    """Return the file that a SQLite URL names, decoded; None for another database or one in memory."""
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

    It names the driver, because for a shorter URL MLflow creates the folder as written, with its percent signs.
    """
    return f"sqlite+pysqlite:///{quote(str(path))}"


def without_password(url: str) -> str:
    """Return a URL without its password, for messages."""
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
    # The names are short, because the database's own name may have the greatest possible length.
    prefix = f".{sha256(path.name.encode()).hexdigest()[:12]}"
    lock, new = path.with_name(f"{prefix}.lock"), path.with_name(f"{prefix}.new")
    with _locked(lock, path):
        if not path.exists():
            _make_file(new, path, tables)
        elif not _is_made(sqlite_url(path), tables):
            _complete_file(path, url, tables)
        # Processes that still wait for this lock file find the tables finished.
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
    """Create a database under another name and give it its final name, unless that exists by then."""
    _remove(new)
    try:
        # This fails at once if the file cannot be opened; MLflow would try again for minutes.
        with _connected(sqlite_url(new)):
            pass
        tables.make(sqlite_url(new))
        try:
            path.hardlink_to(new)
        except FileExistsError:
            # A process that does not know the lock created it.
            _wait_until_made(path, tables)
    finally:
        _remove(new)


def _remove(database: Path) -> None:
    for ending in ("", "-journal", "-wal", "-shm"):
        database.with_name(database.name + ending).unlink(missing_ok=True)


def _complete_file(path: Path, url: str, tables: Tables) -> None:
    """Create or upgrade tables in an existing file."""
    with _connected(sqlite_url(path)) as connection:
        _refuse_foreign(connection, tables)
        empty, filled = not _names(connection), _filled(connection)
    # A file without any table was made by `touch`. A file with rows has tables of an older version, which the library
    # upgrades.
    if empty or filled or tables.resumes:
        tables.make(url)
    else:
        _wait_until_made(path, tables)


def _wait_until_made(path: Path, tables: Tables) -> None:
    """Wait for a process that creates tables without the lock, as `mlflow run` does, while it makes progress.

    Raises:
        UnusableDatabaseError: there is no progress.
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
            # A process that does not know the lock may have been first.
            if not _is_made(url, tables):
                raise


def _acquire(connection: Connection, tables: Tables, url: str) -> None:
    """Acquire the lock of a library's tables, which is released with the connection's transaction."""
    key = {"key": int.from_bytes(sha256(f"sensai {tables.owner}".encode()).digest()[:7])}
    if connection.execute(sqlalchemy.text("SELECT pg_try_advisory_xact_lock(:key)"), key).scalar():
        return
    _log.warning("waiting for another process, which makes the tables of %s", without_password(url))
    connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), key)


def _is_made(url: str, tables: Tables) -> bool:
    with _connected(url) as connection:
        return tables.names() <= _names(connection) and tables.are_finished(connection)


def _refuse_foreign(connection: Connection, tables: Tables) -> None:
    """Raise an error for a database of another library, since both would write their version into one table of Alembic.

    Raises:
        UnusableDatabaseError: the database belongs to another library.
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
    """Yield a connection of its own, which is closed completely after the block."""
    parsed = make_url(url)
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=_limits(parsed))
    with engine.connect() as connection:
        yield connection


def _limits(url: URL) -> dict[str, int]:
    """Return the driver's options that limit waiting, unless the URL sets them."""
    if url.get_backend_name() == "sqlite":
        return {"timeout": _LOCKED_SECONDS}
    known = url.get_driver_name() in ("psycopg", "psycopg2")
    return {"connect_timeout": _CONNECT_SECONDS} if known and "connect_timeout" not in url.query else {}


def _names(connection: Connection) -> set[str]:
    return set(sqlalchemy.inspect(connection).get_table_names())


def _filled(connection: Connection) -> bool:
    """Return True if any table has a row, except those of alembic."""
    quoted = connection.dialect.identifier_preparer.quote
    return any(
        connection.execute(sqlalchemy.text(f"SELECT 1 FROM {quoted(name)} LIMIT 1")).first()  # noqa: S608  (its own names)
        for name in _names(connection)
        if not name.startswith(_ALEMBIC)
    )


def _reason(error: Exception, path: Path | None) -> str:
    """Return in one line why a database cannot be opened."""
    origin = getattr(error, "orig", None) or error
    reason = " ".join(str(origin).split())
    length = len(os.fsencode(path)) if path else 0
    if length > _SQLITE_PATH_BYTES:
        reason += f" (its path has {length} bytes, and SQLite opens paths of up to {_SQLITE_PATH_BYTES})"
    return reason
