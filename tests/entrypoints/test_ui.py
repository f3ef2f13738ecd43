"""`sensai ui`: MLflow's UI on loopback, opened at the runs, ended with the process that started it."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from tests.helpers.pipeline import Place
from tests.helpers.processes import still_running
from tests.helpers.server import free_port, mlflow_server

_UI = [sys.executable, "-m", "sensai", "ui"]


@contextmanager
def started(command: list[str]) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Yield a process, and the first line that it prints."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        try:
            assert process.stdout
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.long
def test_it_listens_on_loopback_only_and_ends_with_its_parent(place: Place, tmp_path: Path) -> None:
    port = free_port()
    # A shell that waits is the parent.
    script = f"'{sys.executable}' -m sensai ui --port {port}; true"
    with started(["sh", "-c", script]) as (shell, line):
        page = f"http://127.0.0.1:{port}/#/experiments/{place.experiment}/runs?workflowType=machine_learning"
        assert line == page
        answer = requests.get(page, timeout=10)
        assert (answer.status_code, "<title>MLflow</title>" in answer.text) == (200, True)
        found = requests.post(
            f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/experiments/search", json={"max_results": 10}, timeout=10
        )
        assert "test" in [each["name"] for each in found.json()["experiments"]]
        family = psutil.Process(shell.pid).children(recursive=True)
        addresses = {
            each.laddr.ip
            for process in family
            for each in process.net_connections("inet")
            if each.status == psutil.CONN_LISTEN
        }
        assert addresses == {"127.0.0.1"}
        # The command, MLflow's, the server, its one worker, and a helper of Python's.
        assert len(family) <= 5
        shell.send_signal(signal.SIGKILL)
        shell.wait()
        assert still_running(family, 30) == []


def test_a_port_that_is_taken_is_named(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run([*_UI, "--port", str(port)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(rf"error: sensai ui: port={port}: cannot be listened on .*\n", done.stderr)


@pytest.mark.long
def test_the_address_of_a_tracking_server_is_told(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Place.make(tmp_path, empty_database)
    with mlflow_server(tmp_path) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        done = subprocess.run(_UI, capture_output=True, text=True, check=True)
    assert done.stdout == f"the tracking server has the UI: {uri}/#/experiments/0/runs?workflowType=machine_learning\n"
