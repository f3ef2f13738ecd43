"""`main` killed in the middle and started again: nothing that was finished is done again, the result is the same."""

import getpass
import os
import signal
import subprocess
import time
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from analysis.artifacts import downloaded
from tests.conftest import TINY, command

PARAMETERS = {**TINY, "epochs": 6}
BEFORE_THE_KILL = ("baseline", "activations", "group", "prune")


def runs(store_uri: str, stage: str, status: str = "FINISHED") -> list[Run]:
    client = mlflow.MlflowClient(store_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.`sensai.stage` = '{stage}' and attributes.status = '{status}'"))


def member_files(store_uri: str) -> dict[str, bytes]:
    (retrain,) = runs(store_uri, "retrain")
    with downloaded(retrain.info.run_id, "members", store_uri) as folder:
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def uninterrupted(empty_database: Path, tmp_path: Path) -> dict[str, bytes]:
    folder, temporary = tmp_path / "uninterrupted", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    uri = f"sqlite:///{folder}/mlflow.db"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "TMPDIR": str(temporary)}
    environment.pop("MLFLOW_EXPERIMENT_ID", None)
    subprocess.run(command("main", **PARAMETERS), cwd=folder, env=environment, check=True, capture_output=True)
    # The cache of torch and the session file of onnxruntime, of which a machine has one each; no stage leaves anything.
    assert {path.name for path in temporary.iterdir()} <= {f"torchinductor_{getpass.getuser()}", ".ses"}
    return member_files(uri)


def test_main_goes_on_after_sigkill(store_uri: str, tmp_path: Path, uninterrupted: dict[str, bytes]) -> None:
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

    again = subprocess.Popen(command("main", **PARAMETERS), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    seen = set()
    while again.poll() is None:
        seen |= {int(path.stem) for path in first_member.glob("*.safetensors")}
        time.sleep(0.01)
    assert again.returncode == 0
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
    assert member_files(store_uri) == uninterrupted
    assert not list(checkpoints.iterdir())
