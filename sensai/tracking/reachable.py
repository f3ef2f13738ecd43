"""Check the current store of MLflow before it is used; errors that a user can correct become one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from sensai.errors import InputError
from sensai.files import storage_error
from sensai.tracking.database_tables import UnusableDatabaseError, sqlite_path, without_password
from sensai.tracking.tracking_store import current_uri, ready

ANSWER_SECONDS = 5
_LONGEST_REASON = 300
# HTTP statuses: the server does not know the user, or does not allow the request.
_UNKNOWN_USER, _NOT_ALLOWED = 401, 403
# PostgreSQL's codes for a missing privilege and for a read-only transaction; SQLite has a text for the latter.
_SQL_REFUSALS, _READ_ONLY = {"42501", "25006"}, "readonly database"


def reachable_store() -> str:
    """Return the URI of MLflow's current store, which answers, is writable and has its tables.

    Raises:
        InputError: one of these does not hold.
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
    """Turn errors of the store within the block into an InputError of one line.

    Raises:
        InputError: the store refused a request of the block.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, UnusableDatabaseError, ImportError, OSError) as error:
        if storage := storage_error(error, database=uri):
            raise storage from error
        # MLflow puts the URI into messages unchanged.
        reason = _reason(error).replace(uri, without_password(uri))
        raise InputError(f"{_named(uri)}: {reason[:_LONGEST_REASON]}") from error


@contextmanager
def permission_errors(uri: str) -> Iterator[None]:
    """Turn the store's refusal of this user within a stage's block into one line; other errors pass.

    Raises:
        InputError: the store does not know the user, or does not allow the request.
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
    # The following lines of SQLAlchemy and Alembic are the statement and links.
    first = next((line for line in str(text).splitlines() if line.strip()), type(error).__name__)
    return " ".join(first.split())


def _refusal(error: MlflowException) -> str | None:
    """Return what the store's refusal of the user means; None for another error."""
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
