"""The store that MLflow is set to, checked before it is used: what a user can mend is one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from sensai.errors import InputError
from sensai.files import storage_error
from sensai.tracking.first_contact import UnusableDatabaseError, sqlite_path, without_password
from sensai.tracking.tracking_store import current_uri, ready

ANSWER_SECONDS = 5
_LONGEST_REASON = 300
# Of HTTP: the server does not know the user, or does not let this one do what is asked.
_UNKNOWN_USER, _NOT_ALLOWED = 401, 403
# Of PostgreSQL: no privilege for a table; a transaction that may only read. SQLite has its own words for that.
_SQL_REFUSALS, _READ_ONLY = {"42501", "25006"}, "readonly database"


def reachable_store() -> str:
    """Return the URI of the store that MLflow is set to, which answers, can be written to and has its tables.

    Raises:
        InputError: it does not.
    """
    try:
        uri = current_uri()
    except UnicodeError as error:
        raise InputError(
            f"the working folder {os.fsencode(os.getcwd())!r} has a name that is no UTF-8: MLflow can make no store in it; "
            "set MLFLOW_TRACKING_URI"
        ) from error
    _check_server(uri)
    with store_errors(uri):
        ready()
    _check_writable(uri)
    return uri


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Within the block errors of the store become the user's, in one line.

    Raises:
        InputError: the store refused what the block asked of it.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, UnusableDatabaseError, ImportError, OSError) as error:
        if told := storage_error(error, database=uri):
            raise told from error
        # MLflow shows an URI as it is.
        reason = _reason(error).replace(uri, without_password(uri))
        raise InputError(f"{_named(uri)}: {reason[:_LONGEST_REASON]}") from error


@contextmanager
def permission_errors(uri: str) -> Iterator[None]:
    """Within the block, in which a stage works, the store's refusal of this user becomes one line; other errors stay.

    Raises:
        InputError: the store does not know the user, or does not let this one do what was asked.
    """
    try:
        yield
    except MlflowException as error:
        if _refusal(error) is None:
            raise
        raise InputError(f"{_named(uri)}: {_reason(error)}") from error


def _check_server(uri: str) -> None:
    if not uri.startswith(("http://", "https://")):
        return
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS)
    except requests.RequestException as error:
        raise InputError(
            f"{_named(uri)}: no tracking server answers within {ANSWER_SECONDS} s ({type(error).__name__})"
        ) from error


def _check_writable(uri: str) -> None:
    path = sqlite_path(uri)
    if path is None:
        return
    for place in (path, path.parent):
        if not os.access(place, os.W_OK):
            raise InputError(f"{_named(uri)}: {str(place)!r} is not writable, and every run writes into the store")


def _reason(error: Exception) -> str:
    if isinstance(error, MlflowException) and (refusal := _refusal(error)):
        return refusal
    text = getattr(error, "message", None) or str(error)
    # SQLAlchemy and Alembic go on with the statement and links.
    first = next((line for line in str(text).splitlines() if line.strip()), type(error).__name__)
    return " ".join(first.split())


def _refusal(error: MlflowException) -> str | None:
    """Return what the store's refusal of the user means; None: it is another error."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    status = error.get_http_status_code()
    if status == _UNKNOWN_USER:
        return f"the server does not know MLFLOW_TRACKING_USERNAME={user!r} with this MLFLOW_TRACKING_PASSWORD (401)"
    if status == _NOT_ALLOWED:
        whose = f"MLFLOW_TRACKING_USERNAME={user!r}" if user else "this user"
        return f"{whose} has no permission for what was asked (403); an administrator of the server grants it"
    driver_error = getattr(error.__cause__, "orig", None)
    if getattr(driver_error, "sqlstate", None) in _SQL_REFUSALS or _READ_ONLY in str(driver_error):
        return f"the database does not let this user write ({' '.join(str(driver_error).split())})"
    return None


def _named(uri: str) -> str:
    return f"MLFLOW_TRACKING_URI={without_password(uri)!r}"
