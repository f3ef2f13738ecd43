"""The experiment of new runs."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import mlflow
import pytest

from sensai.errors import InputError
from sensai.tracking import Store
from tests.conftest import Entry


@pytest.fixture
def client(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    return mlflow.MlflowClient(store_uri)


@pytest.mark.parametrize("variable", ["MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"])
def test_a_deleted_experiment_says_how_to_restore_it(
    variable: str, client: mlflow.MlflowClient, launched: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = client.create_experiment("cnn")
    client.delete_experiment(number)
    value = "cnn" if variable.endswith("NAME") else number
    monkeypatch.setenv(variable, value)
    for stage in ("baseline", "promote"):
        refused = launched(stage)
        assert refused.returncode == 2
        assert f"{variable}={value!r}: the experiment is deleted" in refused.stderr
        assert f"mlflow experiments restore --experiment-id {number}" in refused.stderr
    client.restore_experiment(number)
    assert Store.connect().experiment_id == number


def test_the_default_experiment_is_deleted(client: mlflow.MlflowClient) -> None:
    client.delete_experiment("0")
    with pytest.raises(InputError, match=r"experiment 'Default': the experiment is deleted.*--experiment-id 0"):
        Store.connect()


@pytest.mark.parametrize("number", [" ", "abc", "-1", "1.5", "9" * 30, "0; DROP TABLE runs", "\u00b2"])
def test_ids_of_nothing(number: str, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", number)
    with pytest.raises(InputError, match="MLFLOW_EXPERIMENT_ID="):
        Store.connect()


@pytest.mark.parametrize("name", ["  ", "\n", "n" * 600])
def test_names_that_are_none(name: str, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    with pytest.raises(InputError, match="MLFLOW_EXPERIMENT_NAME="):
        Store.connect()


@pytest.mark.parametrize("name", ["größe 画", "it's", 'a "b"', "50% #1 ?", "a/b", "-x", "two\nlines"])
def test_names_with_any_characters(name: str, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    made = Store.connect().experiment_id
    assert client.get_experiment(made).name == name
    assert Store.connect().experiment_id == made


@pytest.mark.parametrize("variable", ["MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"])
def test_an_empty_variable_is_none(variable: str, client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "")
    assert Store.connect().experiment_id == "0"


def test_processes_that_make_an_experiment_at_once(
    client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"new {number}")
        began = Barrier(4)

        def connected(_: int, began: Barrier = began) -> str:
            began.wait()
            return Store.connect().experiment_id

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(connected, range(4)))) == 1
