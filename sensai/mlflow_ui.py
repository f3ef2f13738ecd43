"""`sensai ui`: MLflow's own UI on the current store, on loopback only, as long as the process that started it."""

import os
import signal
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import suppress

from sensai import terminal
from sensai.cluster.processes import end_with
from sensai.errors import InputError
from sensai.signals import Interrupted, Terminated, catch_signals
from sensai.tracking.run_pages import UI_HOST, UI_PORT, experiment_page

_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_TO_END = 10.0


def serve(arguments: Sequence[str]) -> None:
    """Serve the UI until Ctrl-C or SIGTERM, or the end of the parent process.

    Where the store is a tracking server, which has a UI, only its address is printed.

    Args:
        arguments: of the command line.

    Raises:
        InputError: the port is taken, or the store does not answer.
    """
    parser = ArgumentParser("sensai ui", description=__doc__)
    parser.add_argument("--port", type=int, default=UI_PORT, help=f"port to listen on [{UI_PORT}]")
    port = parser.parse_args(arguments).port
    terminal.prepare()
    catch_signals()
    end_with(os.getppid(), signal.SIGTERM)
    with suppress(Interrupted, Terminated):
        _serve(port)


def _serve(port: int) -> None:
    # MLflow is imported when signals are caught.
    from sensai.tracking import Store

    with terminal.waiting("opens the tracking store"):
        store = Store.connect()
    page, uri = experiment_page(store.experiment_id), store.client.tracking_uri
    if uri.startswith(("http://", "https://")):
        terminal.say(f"the tracking server has the UI: {uri.rstrip('/')}{page}")
        return
    _check_free(port)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", UI_HOST, "--port", str(port), "--workers", "1"]
    # Jobs of MLflow's assistants would take four more processes.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(  # noqa: S603  (MLflow's own command)
        command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        _wait_until_it_answers(server, port)
        terminal.say(f"http://{UI_HOST}:{port}{page}\nCtrl-C ends it")
        server.wait()
    finally:
        _end(server)


def _check_free(port: int) -> None:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((UI_HOST, port))
    except (OSError, OverflowError) as error:
        raise InputError(f"port={port}: cannot be listened on ({error}); choose another: sensai ui --port") from error


def _wait_until_it_answers(server: "subprocess.Popen[bytes]", port: int) -> None:
    while server.poll() is None:
        try:
            socket.create_connection((UI_HOST, port), timeout=1).close()
            return
        except OSError:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    raise InputError(f"MLflow's server ended with status {server.returncode}; its messages stand above")


def _end(server: "subprocess.Popen[bytes]") -> None:
    """End the server with all of its processes."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(_SECONDS_TO_END)
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
