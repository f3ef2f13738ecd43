"""The aliases of registered models: `candidate` is the newest version, `champion` the one that `promote` chose."""

from collections.abc import Iterator
from contextlib import contextmanager

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
