"""The tracking store as a user sets it, and runs whose process was killed."""

import json
import os
import re
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
from sensai.tracking import Store, reachable
from sensai.tracking.owners import why_orphaned
from tests.conftest import ROOT

# Opens a run like a stage, and then stays busy.
BUSY = """
import time
from sensai.tracking import Store
print(Store.connect().create("busy", None).id, flush=True)
time.sleep(600)
"""


@pytest.fixture
def busy(store_uri: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """Yield a process that is writing a run, and the run's id."""
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


@pytest.mark.processes
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


@pytest.mark.processes
def test_a_process_that_nobody_has_reaped_is_gone_too(store_uri: str) -> None:
    # A killed process stays a zombie in a container whose first process is not an init.
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


def opened_by_mlflow(client: MlflowClient, source: str = str(ROOT)) -> str:
    """Return a run as `mlflow run` opens it, before it starts the run's process."""
    source_tags = {"mlflow.source.type": "PROJECT", "mlflow.source.name": source, "mlflow.project.entryPoint": "main"}
    return client.create_run(os.environ["MLFLOW_EXPERIMENT_ID"], tags=source_tags).info.run_id


@pytest.mark.parametrize("source", [str(ROOT), f"file://{ROOT}", f"file://{ROOT.parent}#{ROOT.name}"])
def test_a_run_that_mlflow_left_before_our_code_began_is_closed(store_uri: str, source: str) -> None:
    store = Store.connect()
    run_id = opened_by_mlflow(store.client, source)
    store.close_orphans()
    assert store.client.get_run(run_id).info.status == "KILLED"
    assert store.tags_of(run_id)["sensai.failure"] == "mlflow run was ended before the code of sensAI had started"


@pytest.mark.parametrize("source", ["/another/project", "https://example.org/a.git", f"file://{ROOT}#another"])
def test_a_run_of_another_project_is_left_alone(store_uri: str, source: str) -> None:
    store = Store.connect()
    run_id = opened_by_mlflow(store.client, source)
    store.close_orphans()
    assert store.client.get_run(run_id).info.status == "RUNNING"


@pytest.mark.processes
@pytest.mark.parametrize("carrier", ["of the run", "mlflow run"])
def test_a_run_whose_process_is_about_to_begin_is_left_alone(store_uri: str, carrier: str, tmp_path: Path) -> None:
    store = Store.connect()
    (tmp_path / "mlflow").write_text("import sys\nprint('there', flush=True)\nsys.stdin.read()")
    run_id = opened_by_mlflow(store.client) if carrier == "of the run" else None
    given = {"MLFLOW_RUN_ID": run_id} if run_id else {}
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "mlflow"), "run" if run_id is None else "other", "."],
        env={**os.environ, **given},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline()
        run_id = run_id or opened_by_mlflow(store.client)
        store.close_orphans()
        assert store.client.get_run(run_id).info.status == "RUNNING"
    finally:
        process.communicate()
    store.close_orphans()
    assert store.client.get_run(run_id).info.status == "KILLED"


def test_a_run_that_was_wrongly_taken_for_left_behind_goes_on(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.connect()
    run_id = opened_by_mlflow(store.client)
    store.close_orphans()
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    run = store.adopt()
    assert store.client.get_run(run_id).info.status == "RUNNING"
    assert "sensai.failure" not in store.tags_of(run_id)
    with run.closing():
        pass
    assert store.client.get_run(run_id).info.status == "FINISHED"


def test_the_own_run_is_not_taken_for_left_behind(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.connect()
    monkeypatch.setenv("MLFLOW_RUN_ID", opened_by_mlflow(store.client))
    store.close_orphans()
    assert store.client.get_run(os.environ["MLFLOW_RUN_ID"]).info.status == "RUNNING"


def test_in_a_store_that_machines_share_nobody_is_hurried(store_uri: str) -> None:
    client = MlflowClient(store_uri)
    run = client.get_run(opened_by_mlflow(client))
    assert why_orphaned(run, shared=False)
    assert why_orphaned(run, shared=True) is None
    run.info._start_time -= 25 * 3600 * 1000
    assert why_orphaned(run, shared=True)


@pytest.mark.parametrize("state", ["nothing", "no id", "FINISHED", "FAILED", "deleted"])
def test_a_run_that_cannot_be_adopted(state: str, store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.connect()
    run_id = {"nothing": "0" * 32, "no id": "../x y"}.get(state) or opened_by_mlflow(store.client)
    if state == "deleted":
        store.client.delete_run(run_id)
    elif state.isupper():
        store.client.set_terminated(run_id, state)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with pytest.raises(InputError, match=re.escape(f"MLFLOW_RUN_ID={run_id!r}: ")):
        store.adopt()
    if state.isupper():
        assert store.client.get_run(run_id).info.status == state
        assert "sensai.process" not in store.tags_of(run_id)


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
