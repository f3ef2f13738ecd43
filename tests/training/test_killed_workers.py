"""Killed workers, and a killed parent: no process is left, and the result is the same."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from torch import Tensor

from sensai.training.checkpoints import Checkpoints, TrainingHistory
from tests.helpers.processes import still_running
from tests.helpers.retrain_tiny import EPOCHS, epochs_of, files, retrain, start, wait_for

pytestmark = pytest.mark.processes


JOBS = 2


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that train; joblib keeps others that look after files and semaphores."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "loky.backend.popen_loky" in " ".join(child.cmdline())]


@pytest.mark.long
def test_sigkill_of_the_parent_while_its_workers_are_starting_leaves_no_process(tmp_path: Path) -> None:
    process = start(tmp_path, "bce", JOBS)
    try:
        wait_for(lambda: bool(psutil.Process(process.pid).children()), process)
        children = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.wait()
    alive = still_running(children, 5)
    for child in alive:
        child.kill()
    assert alive == []


@pytest.fixture(scope="module", params=["bce", pytest.param("joint", marks=pytest.mark.long)])
def uninterrupted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    retrain(folder, request.param, 1)
    return request.param, folder


# Of independent members, `main` and `mlflow run` are killed: tests/entrypoints.
@pytest.mark.parametrize("uninterrupted", ["joint"], indirect=True)
@pytest.mark.long
def test_sigkill_of_the_parent_leaves_no_process_and_the_next_start_goes_on(
    tmp_path: Path, uninterrupted: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, whole = uninterrupted
    process = start(tmp_path, loss, JOBS)
    try:
        wait_for(lambda: min(epochs_of(tmp_path)) >= 3, process)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(workers_of(process)) == JOBS
    finally:
        process.kill()
        process.wait()
    assert still_running(children, 5) == []
    done = epochs_of(tmp_path)
    assert min(done) < EPOCHS
    written: list[int] = []
    write = Checkpoints.write

    def noted(
        self: Checkpoints, tensors: dict[str, Tensor], progress: TrainingHistory, state: Mapping[str, str]
    ) -> None:
        written.append(len(progress.epochs))
        write(self, tensors, progress, state)

    monkeypatch.setattr(Checkpoints, "write", noted)
    retrain(tmp_path, loss, 1)
    # What had been trained was not trained again; members that learn jointly go back to the last epoch that all had written.
    assert min(written) == min(done) + 1
    assert files(tmp_path) == files(whole)


@pytest.mark.long
def test_a_worker_that_is_killed_is_started_again(tmp_path: Path, uninterrupted: tuple[str, Path]) -> None:
    loss, whole = uninterrupted
    process = start(tmp_path, loss, JOBS)
    try:
        wait_for(lambda: min(epochs_of(tmp_path)) >= 3, process)
        os.kill(workers_of(process)[0].pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    assert files(tmp_path) == files(whole)
