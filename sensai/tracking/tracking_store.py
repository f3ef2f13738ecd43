"""The tracking store that MLflow is set to, ready to be used by several processes at once.

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

from sensai.tracking.first_contact import (
    Tables,
    UnusableDatabaseError,
    prepare,
    sqlite_path,
    sqlite_url,
    without_password,
)

_prepared: set[str] = set()


def tracking_client(tracking_uri: str | None = None) -> MlflowClient:
    """Return a client of a store whose tables are made, by this process if need be.

    Args:
        tracking_uri: of the store; None: the one that MLflow is set to.

    Raises:
        UnusableDatabaseError: the store's database does not answer, is half-made or is that of something else.
    """
    return MlflowClient(ready(tracking_uri))


def ready(tracking_uri: str | None = None) -> str:
    """Return the URI of a store whose tables are made; where it is the current one, the model registry's are made, too.

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
    """Return the URI that MLflow is set to; its default gets a form in which any working folder can be named.

    MLflow percent-encodes the folder, and then makes another one whose name has the percent signs.
    """
    uri = mlflow.get_tracking_uri()
    path = sqlite_path(uri)
    if "%" in uri and path is not None and not mlflow.is_tracking_uri_set():
        uri = sqlite_url(path)
        mlflow.set_tracking_uri(uri)
    return uri


def _names() -> set[str]:
    # Imported here: stores behind a server need none of it. MLflow's models name its tables as soon as they are imported.
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  (which imports all models)
    from mlflow.store.db.base_sql_model import Base

    return set(Base.metadata.tables)


def _are_finished(connection: Connection) -> bool:
    # MLflow makes the first experiment when all tables are there.
    if connection.execute(sqlalchemy.text("SELECT 1 FROM experiments LIMIT 1")).first():
        return True
    import mlflow.store.db_migrations
    from alembic.script import ScriptDirectory

    version = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalar()
    return version == ScriptDirectory(str(Path(mlflow.store.db_migrations.__file__).parent)).get_current_head()


def _make(url: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # The default experiment's artifacts lie where MLflow puts them. As a URI, since MLflow writes the path unquoted into SQL.
    SqlAlchemyStore(url, Path("mlruns").absolute().as_uri()).engine.dispose()


MLFLOW_TABLES = Tables("MLflow", _names, _are_finished, _make, resumes=False)


def main() -> None:
    """Make the store that MLflow is set to and become the command of the arguments; without one, end."""
    try:
        ready()
    except (UnusableDatabaseError, MlflowException) as error:
        sys.exit(f"error: MLFLOW_TRACKING_URI={without_password(mlflow.get_tracking_uri())!r}: {error}")
    if command := sys.argv[1:]:
        # `current_uri` has put the store's URI into the environment where the command would read it wrongly.
        os.execvp(command[0], command)  # noqa: S606  (the user's own command)


if __name__ == "__main__":
    main()
