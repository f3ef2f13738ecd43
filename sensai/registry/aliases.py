"""The aliases of registered models: `candidate` is the newest version, `champion` the one that `promote` chose."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.tracking import MlflowClient

from sensai.errors import InputError

CANDIDATE = "candidate"
CHAMPION = "champion"

_NOT_THERE = {ErrorCode.Name(each) for each in (RESOURCE_DOES_NOT_EXIST, INVALID_PARAMETER_VALUE)}


def aliases_of(client: MlflowClient, model_name: str) -> dict[str, str]:
    """Return alias -> number of the version, read from the model, since a missing alias is not an error.

    Raises:
        InputError: there is no such model.
    """
    with missing_entries(f"model_name={model_name!r}"):
        return dict(client.get_registered_model(model_name).aliases)


@contextmanager
def missing_entries(parameter: str) -> Iterator[None]:
    """Raise an InputError for entries that the registry does not have or refuses; other failures of the registry pass."""
    try:
        yield
    except MlflowException as error:
        if error.error_code not in _NOT_THERE:
            raise
        raise InputError(f"{parameter}: {str(error).splitlines()[0]}") from error


def find(client: MlflowClient, model_name: str, version: int | None) -> ModelVersion:
    """Return a version by its number, or the candidate if none is given.

    Raises:
        InputError: there is none.
    """
    number = aliases_of(client, model_name).get(CANDIDATE) if version is None else version
    if number is None:
        raise InputError(f"model_name={model_name!r}: no version has the alias {CANDIDATE}")
    with missing_entries(f"model_name={model_name!r}: version={number}"):
        return client.get_model_version(model_name, str(number))
