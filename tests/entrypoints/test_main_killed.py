"""`main` killed and started again: no finished stage runs again, and the result is the same."""

import getpass
import os
import signal
import subprocess
import time
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from sensai.stages import retrain
from sensai.tracking.artifacts import downloaded
from tests.conftest import command, tiny

PARAMETERS = tiny("main", epochs=6)
BEFORE_THE_KILL = ("baseline", "activations", "group", "prune")


def runs(store_uri: str, stage: str, status: str = "FINISHED") -> list[Run]:
    client = mlflow.MlflowClient(store_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.`sensai.stage` = '{stage}' and attributes.status = '{status}'"))


def member_files(store_uri: str, run_id: str) -> dict[str, bytes]:
    with downloaded(run_id, "members", store_uri) as folder:
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.long  # `retrain` alone goes on in tests/training/test_killed_workers.py
@pytest.mark.processes
def test_main_goes_on_after_sigkill(store_uri: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("main", **PARAMETERS), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    checkpoints = tmp_path / ".sensai" / "checkpoints"
    try:
        deadline = time.monotonic() + 240
        # In the middle of an epoch's end: one member has its checkpoint, others may not yet.
        while not any(path.stem > "000000" for path in checkpoints.glob("*/cut_1/member_001/*.safetensors")):
            assert process.poll() is None, "main ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = {stage: runs(store_uri, stage)[0].info.run_id for stage in BEFORE_THE_KILL}
    assert runs(store_uri, "retrain") == []
    assert len(runs(store_uri, "main", "RUNNING")) == 1
    (first_member,) = checkpoints.glob("*/cut_1/member_000")
    done = int(max(first_member.glob("*.safetensors")).stem)

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    again = subprocess.Popen(
        command("main", **PARAMETERS),
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
    )
    seen = set()
    while again.poll() is None:
        seen |= {int(path.stem) for path in first_member.glob("*.safetensors")}
        time.sleep(0.01)
    assert again.returncode == 0
    # Of the libraries, the cache of torch and the session file of onnxruntime; a machine has one each.
    assert {path.name for path in temporary.iterdir()} <= {f"torchinductor_{getpass.getuser()}", ".ses"}
    # Of the member that was ahead only the epochs that were left are trained.
    assert 0 < done < PARAMETERS["epochs"] in seen
    assert min(seen) >= done - 1

    for stage, run_id in finished.items():
        assert [run.info.run_id for run in runs(store_uri, stage)] == [run_id]
    (main,) = runs(store_uri, "main")
    for stage, run_id in finished.items():
        assert main.data.tags[f"sensai.upstream.{stage}"] == run_id
    killed = runs(store_uri, "main", "KILLED") + runs(store_uri, "retrain", "KILLED")
    assert {run.data.tags["sensai.failure"] for run in killed} == {"its process is gone"}
    assert len(killed) == 2
    assert runs(store_uri, "main", "RUNNING") == runs(store_uri, "retrain", "RUNNING") == []
    assert not list(checkpoints.iterdir())

    # On the same runs, retraining without interruption gives the same members.
    (resumed,) = runs(store_uri, "retrain")
    whole = retrain.run(retrain.stage.config(**tiny("retrain", epochs=PARAMETERS["epochs"], force=True)))
    assert whole != resumed.info.run_id
    assert member_files(store_uri, whole) == member_files(store_uri, resumed.info.run_id)
