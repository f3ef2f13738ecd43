"""`mlflow run` killed during retraining: the processes that it started end too, and the run is marked."""

import os
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import psutil
import pytest

from tests.conftest import ROOT, tiny
from tests.helpers.processes import still_running


@pytest.mark.long
def test_nothing_is_left_of_a_run_whose_mlflow_was_killed(store_uri: str, tmp_path: Path) -> None:
    parameters = tiny("retrain", epochs=2000, jobs=2, work_dir=str(tmp_path / "work"))
    given = [argument for name, value in parameters.items() for argument in ("-P", f"{name}={value}")]
    command = [sys.executable, "-m", "mlflow", "run", str(ROOT), "-e", "retrain", "--env-manager", "local", *given]
    # MLproject's commands call `python`, which is to be this one.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 240
        while not any(path.stem > "000003" for path in tmp_path.glob("work/checkpoints/*/*/member_000/*.safetensors")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) > 2
    finally:
        process.kill()
        process.wait()
    assert still_running(children, 20) == []
    client = mlflow.MlflowClient(store_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = client.search_runs(experiments, "tags.`sensai.stage` = 'retrain'")
    assert (run.info.status, run.data.tags["sensai.failure"]) == ("KILLED", "interrupted")
