"""MLflow's current tracking store, ready to be used by several processes at once.

`python -m sensai.tracking.tracking_store mlflow run ...` makes the store where there is none, and runs a command with its
URI: `mlflow run` opens it before any code of a project runs.
"""

import os
import sys
from pathlib import Path

import mlflow
import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy import Connection

from sensai.tracking.database_tables import (
    Tables,
    UnusableDatabaseError,
    prepare,
    sqlite_path,
    sqlite_url,
    without_password,
)

_prepared: set[str] = set()


def tracking_client(tracking_uri: str | None = None) -> MlflowClient:
    """Return a client of a store with tables, which this process creates if necessary.

    Args:
        tracking_uri: of the store; None: the current one of MLflow.

    Raises:
        UnusableDatabaseError: the store's database does not answer, is half-made or belongs to something else.
    """
    return MlflowClient(ready(tracking_uri))


def ready(tracking_uri: str | None = None) -> str:
    """Return the URI of a store with tables; for the current store, the model registry also has its tables then.

    Raises:
        UnusableDatabaseError: as `tracking_client` does.
    """
    uri = tracking_uri or current_uri()
    for each in (uri,) if tracking_uri else (uri, mlflow.get_registry_uri()):
        if each not in _prepared:
            prepare(each, MLFLOW_TABLES)
            _prepared.add(each)
    return uri


def current_uri() -> str:
    """Return MLflow's current URI; its default is changed so that the working folder may have any name.

    MLflow percent-encodes the folder and then creates another one with percent signs in its name.
    """
    uri = mlflow.get_tracking_uri()
    path = sqlite_path(uri)
    if "%" in uri and path is not None and not mlflow.is_tracking_uri_set():
        uri = sqlite_url(path)
        mlflow.set_tracking_uri(uri)
    return uri


def _names() -> set[str]:
    # Imported here, since stores behind a server do not need it. MLflow's models register their tables when they are
    # imported.
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  (which imports all models)
    from mlflow.store.db.base_sql_model import Base

    return set(Base.metadata.tables)


def _are_finished(connection: Connection) -> bool:
    # MLflow creates the first experiment when all tables exist.
    if connection.execute(sqlalchemy.text("SELECT 1 FROM experiments LIMIT 1")).first():
        return True
    import mlflow.store.db_migrations
    from alembic.script import ScriptDirectory

    version = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalar()
    return version == ScriptDirectory(str(Path(mlflow.store.db_migrations.__file__).parent)).get_current_head()


def _make(url: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # The default experiment has its artifacts where MLflow puts them. The path is a URI, because MLflow writes it unquoted
    # into SQL.
    SqlAlchemyStore(url, Path("mlruns").absolute().as_uri()).engine.dispose()


MLFLOW_TABLES = Tables("MLflow", _names, _are_finished, _make, resumes=False)


def main() -> None:
    """Make MLflow's current store and become the command of the arguments, if there is one."""
    try:
        ready()
    except (UnusableDatabaseError, MlflowException) as error:
        sys.exit(f"error: MLFLOW_TRACKING_URI={without_password(mlflow.get_tracking_uri())!r}: {error}")
    if command := sys.argv[1:]:
        try:
            # `current_uri` has put the store's URI into the environment where the command would read it wrongly.
            os.execvp(command[0], command)  # noqa: S606  (the user's own command)
        except OSError as error:
            sys.exit(f"error: {command[0]!r} cannot be run ({error.strerror})")


if __name__ == "__main__":
    main()
