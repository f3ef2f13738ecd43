"""`main` asked to end at any moment ends within seconds, its runs are KILLED, and nothing is left."""

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import psutil
import pytest

from tests.conftest import command, tiny
from tests.helpers.processes import still_running

# Of a machine that does much else too.
_SECONDS = 120
# Of those that `main` makes here.
_RUNS = 15


@pytest.fixture(autouse=True)
def _not_ignored() -> Iterator[None]:
    """Restore the handling of a terminal, since processes that a script starts in the background ignore these signals."""
    before = {each: signal.signal(each, signal.default_int_handler) for each in (signal.SIGINT, signal.SIGHUP)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def runs_of(store_uri: str) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(store_uri)
    return list(client.search_runs([each.experiment_id for each in client.search_experiments()]))


def signalled(store_uri: str, folder: Path, number: int, runs: int, seconds: float, jobs: int) -> None:
    """Send a signal some seconds after so many runs have begun, and return what is left."""
    errors = folder / "errors.txt"
    with (
        errors.open("w") as file,
        subprocess.Popen(
            command("main", **tiny("main", jobs=jobs)),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=file,
        ) as process,
    ):
        try:
            while len(runs_of(store_uri)) < runs and process.poll() is None:
                time.sleep(0.02)
            time.sleep(seconds)
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(number)
            process.wait(_SECONDS)
        finally:
            process.kill()
    said = errors.read_text()
    assert "Traceback" not in said, said
    assert still_running(family, _SECONDS) == []
    statuses = {run.info.status for run in runs_of(store_uri)}
    # It may have come before the program had begun, or after its end.
    early, late = process.returncode == -number and not statuses, statuses == {"FINISHED"}
    if early or late:
        return
    assert process.returncode == 128 + number, said
    assert statuses <= {"FINISHED", "KILLED"}, said
    tops = [run for run in runs_of(store_uri) if "mlflow.parentRunId" not in run.data.tags]
    assert [(run.info.status, run.data.tags["sensai.failure"]) for run in tops] == [("KILLED", "interrupted")] * len(
        tops
    )


@pytest.mark.processes
@pytest.mark.parametrize(
    ("number", "runs", "jobs"),
    [
        (signal.SIGTERM, 0, 1),
        pytest.param(signal.SIGINT, 2, 1, marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, 6, 2, marks=pytest.mark.long),
    ],
)
def test_main_ends_when_it_is_asked_to(store_uri: str, tmp_path: Path, number: int, runs: int, jobs: int) -> None:
    signalled(store_uri, tmp_path, number, runs, random.Random(runs).uniform(0, 1), jobs)


@pytest.mark.long
@pytest.mark.parametrize("attempt", range(50))
def test_main_ends_whenever_it_is_asked_to(store_uri: str, tmp_path: Path, attempt: int) -> None:
    moment = random.Random(attempt)
    signalled(
        store_uri,
        tmp_path,
        moment.choice([signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]),
        moment.randrange(_RUNS),
        moment.uniform(0, 3),
        jobs=moment.choice([1, 2]),
    )
