"""Optuna's dashboard shows the study of `tune`, by the command of README, where the dashboard is installed."""

import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import requests

from sensai.stages import tune
from tests.helpers.pipeline import Pruned
from tests.helpers.server import free_port

PROGRAM = shutil.which("optuna-dashboard")
SECONDS_TO_START = 120


@pytest.mark.long
@pytest.mark.skipif(PROGRAM is None, reason="optuna-dashboard is not on the PATH; it is no dependency of this project")
def test_it_lists_the_study_on_loopback(pruned: Pruned) -> None:
    tune.run(pruned.place.config("tune", trials=1, study="mine", fidelities="0"))
    assert Path(pruned.place.folder, "optuna.db").exists()
    port = free_port()
    command = [PROGRAM, "sqlite:///optuna.db", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, cwd=pruned.place.folder, stderr=subprocess.DEVNULL)
    try:
        (study,) = listed(port, process)["study_summaries"]
        assert study["study_name"] == "mine"
        listening = [each for each in psutil.Process(process.pid).net_connections("inet") if each.status == "LISTEN"]
        assert {each.laddr.ip for each in listening} == {"127.0.0.1"}
    finally:
        process.terminate()
        process.wait()


def listed(port: int, process: "subprocess.Popen[bytes]") -> dict[str, list[dict[str, object]]]:
    """Return the studies that the dashboard lists, when it answers."""
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        assert process.poll() is None
        assert time.monotonic() < deadline
        try:
            answer: dict[str, list[dict[str, object]]] = requests.get(
                f"http://127.0.0.1:{port}/api/studies", timeout=10
            ).json()
            return answer
        except requests.ConnectionError:
            time.sleep(0.2)
