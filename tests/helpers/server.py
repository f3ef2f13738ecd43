"""Real servers on loopback: MLflow's tracking server, and servers of a model."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import requests

from tests.helpers.processes import still_running

_START_SECONDS = 240
_END_SECONDS = 15
_MLFLOW = [sys.executable, "-m", "mlflow"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Yield a tracking server over `folder`/mlflow.db with proxied artifacts; end all of its processes afterwards."""
    command = [*_MLFLOW, "server", "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with server(command, folder, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false") as uri:
        yield uri


@contextmanager
def guarded_mlflow_server(folder: Path, password: str) -> Iterator[str]:
    """Yield a tracking server with users and passwords; it knows `admin`, and all others may read."""
    config = folder / "auth.ini"
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/users.db\nadmin_username = admin\n"
        f"admin_password = {password}\nauthorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    command = [*_MLFLOW, "server", "--app-name", "basic-auth", "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    environment = {"MLFLOW_AUTH_CONFIG_PATH": str(config), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of the tests"}
    with server(command, folder, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false", **environment) as uri:
        yield uri


@contextmanager
def model_server(model_uri: str, store_uri: str, folder: Path) -> Iterator[str]:
    """Yield `mlflow models serve` for a model of a store, in this environment; end all of its processes afterwards."""
    command = [*_MLFLOW, "models", "serve", "--model-uri", model_uri, "--env-manager", "local", "--workers", "1"]
    with server(command, folder, MLFLOW_TRACKING_URI=store_uri) as uri:
        yield uri


@contextmanager
def server(command: list[str], folder: Path, **environment: str) -> Iterator[str]:
    """Yield a server that takes `--host` and `--port` when it answers at /health; end all of its processes afterwards."""
    uri = f"http://127.0.0.1:{free_port()}"
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", uri.rpartition(":")[2]],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Tests that were started in the background ignore interrupts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        _wait_for(uri, process, folder / "server.log")
        yield uri
    finally:
        end(process)


def _wait_for(uri: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            if requests.get(f"{uri}/health", timeout=1).ok:
                return
        except requests.RequestException:
            time.sleep(0.1)


def end(process: subprocess.Popen) -> None:
    """End a process by SIGTERM, or by force if that fails, with all of its processes."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    _signal_group(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_SECONDS)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()
    left = still_running(family, _END_SECONDS)
    assert not left, f"the server left {left}"


def _signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
