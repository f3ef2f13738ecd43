"""The experiment of new runs, as the environment names it."""

from mlflow.entities import Experiment, LifecycleStage
from mlflow.environment_variables import MLFLOW_EXPERIMENT_ID, MLFLOW_EXPERIMENT_NAME
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
    ErrorCode,
)
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import DataError

from sensai.errors import InputError

_DEFAULT = "Default"
_EXISTS = ErrorCode.Name(RESOURCE_ALREADY_EXISTS)
# A store answers so for an unknown id, and for text that cannot be an id.
NOT_THERE = {ErrorCode.Name(each) for each in (RESOURCE_DOES_NOT_EXIST, INVALID_PARAMETER_VALUE)}


def chosen_experiment(client: MlflowClient) -> Experiment:
    """Return the experiment that the environment names by id or name, else MLflow's default.

    A new name creates an experiment.

    Raises:
        InputError: there is no experiment with the id, the name is not valid, or the experiment is deleted.
    """
    if number := MLFLOW_EXPERIMENT_ID.get():
        return _active(_by_id(client, number), f"{MLFLOW_EXPERIMENT_ID.name}={number!r}")
    given = MLFLOW_EXPERIMENT_NAME.get()
    parameter = f"{MLFLOW_EXPERIMENT_NAME.name}={given!r}"
    if given and not given.strip():
        raise InputError(f"{parameter}: must be the name of an experiment, or not set")
    name = given or _DEFAULT
    return _active(_by_name(client, name, parameter), parameter if given else f"experiment {name!r}")


def _by_id(client: MlflowClient, number: str) -> Experiment:
    try:
        return client.get_experiment(number)
    except MlflowException as error:
        # Databases raise these errors for a number that is too large for a column.
        too_large = isinstance(error.__cause__, OverflowError | DataError)
        if error.error_code not in NOT_THERE and not too_large:
            raise
        raise InputError(f"{MLFLOW_EXPERIMENT_ID.name}={number!r}: there is no such experiment in the store") from error


def _by_name(client: MlflowClient, name: str, parameter: str) -> Experiment:
    if found := client.get_experiment_by_name(name):
        return found
    try:
        client.create_experiment(name)
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(INVALID_PARAMETER_VALUE):
            raise InputError(f"{parameter}: {str(error).splitlines()[0]}") from error
        # Another process may have created it meanwhile.
        if error.error_code != _EXISTS:
            raise
    made = client.get_experiment_by_name(name)
    assert made is not None
    return made


def _active(experiment: Experiment, parameter: str) -> Experiment:
    if experiment.lifecycle_stage == LifecycleStage.ACTIVE:
        return experiment
    raise InputError(
        f"{parameter}: the experiment is deleted; restore it (mlflow experiments restore --experiment-id "
        f"{experiment.experiment_id}) or choose another by {MLFLOW_EXPERIMENT_NAME.name}"
    )
