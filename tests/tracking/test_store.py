"""The tracking store as a user sets it, and runs whose process was killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import mlflow
import psutil
import pytest
from mlflow.tracking import MlflowClient

from sensai.errors import InputError
from sensai.tracking import Store
from sensai.tracking import reachable
from tests.conftest import ROOT

# Opens a run as a stage does, and then is busy.
BUSY = """
import time
from sensai.tracking import Store
print(Store.connect().create("busy", None).id, flush=True)
time.sleep(600)
"""


@pytest.fixture
def busy(store_uri: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """A process that is in the middle of a run, and the run's id."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_run_of_a_process_that_was_killed_is_closed(busy: tuple[subprocess.Popen, str]) -> None:
    process, run_id = busy
    store = Store.connect()

    def status() -> str:
        store.close_orphans()
        return store.client.get_run(run_id).info.status

    assert status() == "RUNNING"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert status() == "KILLED"
    assert store.tags_of(run_id)["sensai.failure"] == "its process is gone"


def test_a_process_that_nobody_has_reaped_is_gone_too(store_uri: str) -> None:
    # So a killed process stays in a container whose first process is no init.
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = {"host": socket.gethostname(), "pid": process.pid, "started": psutil.Process(process.pid).create_time()}
    store = Store.connect()
    run = store.create("run", None, {"sensai.process": json.dumps(owner)})
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
        store.close_orphans()
        assert store.client.get_run(run.id).info.status == "KILLED"
    finally:
        process.wait()
        process.stdin.close()


def test_connect_goes_to_the_experiment_that_is_named(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = mlflow.MlflowClient(store_uri)
    given = os.environ["MLFLOW_EXPERIMENT_ID"]
    assert Store.connect().experiment_id == given
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    assert client.get_experiment(Store.connect().experiment_id).name == "Default"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "brand new")
    made = Store.connect().experiment_id
    assert client.get_experiment(made).name == "brand new"
    assert Store.connect().experiment_id == made
    run = Store.connect().create("run", None)
    assert client.get_run(run.id).info.experiment_id == made


def test_an_experiment_that_does_not_exist_is_refused(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "987654")
    with pytest.raises(InputError, match="987654"):
        Store.connect()


def test_a_server_that_is_not_there_is_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{unused.getsockname()[1]}"
        mlflow.set_tracking_uri(uri)
        with pytest.raises(InputError, match=f"MLFLOW_TRACKING_URI='{uri}': no tracking server answers"):
            Store.connect()


def test_a_server_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachable, "ANSWER_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        mlflow.set_tracking_uri(f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(InputError, match=r"no tracking server answers within 0.3 s \(ReadTimeout\)"):
            Store.connect()
        assert time.monotonic() - start < 5


def test_a_database_in_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/nowhere/mlflow.db")
    with pytest.raises(InputError, match="nowhere' does not exist or is not writable"):
        Store.connect()
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database at all, but text that is long enough to be looked at" * 100)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI="):
        Store.connect()


def test_a_scheme_that_mlflow_does_not_know_is_refused() -> None:
    mlflow.set_tracking_uri("bogus://somewhere")
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI='bogus://somewhere'"):
        Store.connect()


def test_an_experiment_is_described_once_and_a_description_of_others_stays(store_uri: str) -> None:
    client = mlflow.MlflowClient(store_uri)
    experiment = Store.connect().experiment_id
    assert "sensai.stage" in client.get_experiment(experiment).tags["mlflow.note.content"]
    client.set_experiment_tag(experiment, "mlflow.note.content", "ours")
    Store.connect()
    assert client.get_experiment(experiment).tags["mlflow.note.content"] == "ours"


def test_processes_that_begin_at_once_all_get_the_store(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = MlflowClient()
    for number in range(5):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", own.create_experiment(f"new {number}"))
        began = Barrier(4)

        def connected(_: int, began: Barrier = began) -> Store:
            began.wait()
            return Store.connect()

        with ThreadPoolExecutor(4) as pool:
            stores = list(pool.map(connected, range(4)))
        assert "sensai.stage" in own.get_experiment(stores[0].experiment_id).tags["mlflow.note.content"]
