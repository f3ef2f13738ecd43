"""Relative paths that a user gives to `mlflow run` in a folder that is not the project's."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, tiny


def mlflow_run(folder: Path, entry_point: str, **parameters: object) -> subprocess.CompletedProcess[str]:
    """Call `mlflow run` on this project in a folder, as a user does."""
    given = [argument for name, value in parameters.items() for argument in ("-P", f"{name}={value}")]
    return subprocess.run(
        [sys.executable, "-m", "mlflow", "run", str(ROOT), "-e", entry_point, "--env-manager", "local", *given],
        cwd=folder,
        # MLproject's commands call `python`, which is to be this one.
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


def baseline_tags(store_uri: str) -> dict[str, str]:
    client = mlflow.MlflowClient(store_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = client.search_runs(experiments, "tags.`sensai.stage` = 'baseline'")
    return run.data.tags


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The user's folder: images below `my data`, and a network of the user's own."""
    folder = tmp_path / "home"
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            place = folder / "my data" / split / label
            place.mkdir(parents=True)
            for number in range(6):
                Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(place / f"{number}.png")
    (folder / "nets.py").write_text(
        "from torch import nn\n"
        "def make(num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(4, num_classes))\n"
    )
    return folder


@pytest.mark.processes
@pytest.mark.long
def test_data_and_network_of_the_users_folder_are_found(home: Path, store_uri: str, tmp_path: Path) -> None:
    parameters = tiny("baseline", dataset="imagefolder", data_dir="my data", arch="nets.py:make", base_epochs=1)
    done = mlflow_run(home, "baseline", **parameters, work_dir=tmp_path / "work")
    assert done.returncode == 0, done.stderr
    # What workers, caches and later stages go by does not depend on a working directory.
    assert f'"data_dir":"{home}/my data"' in baseline_tags(store_uri)["sensai.config"].replace('": ', '":')


@pytest.mark.long
def test_a_missing_file_is_told_with_both_folders(home: Path, store_uri: str, tmp_path: Path) -> None:
    refused = mlflow_run(
        home, "baseline", **tiny("baseline", dataset="imagefolder", data_dir="no data", work_dir=tmp_path / "work")
    )
    assert refused.returncode != 0
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert "data_dir='no data': there is no such folder" in line
    assert f"looked for in {str(home)!r} and {str(ROOT)!r}" in line


@pytest.mark.processes
@pytest.mark.parametrize(
    ("program", "between", "found"), [("mlflow", "", True), ("mlflow", "; true", True), ("other", "", False)]
)
def test_the_users_folder_is_that_of_mlflow_run_alone(
    tmp_path: Path, home: Path, program: str, between: str, found: bool
) -> None:
    # As MLflow starts an entry point: by a shell in the project's folder, which stays where it has more to do.
    (tmp_path / program).write_text(
        "import subprocess, sys\nsubprocess.run(['bash', '-c', sys.argv[2]], cwd=sys.argv[3], check=True)\n"
    )
    asking = "from sensai.cli import _folder_of_mlflow_run; print(_folder_of_mlflow_run())"
    asked = subprocess.run(
        [sys.executable, str(tmp_path / program), "run", f'{sys.executable} -c "{asking}"{between}', str(ROOT)],
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout.strip() == (str(home) if found else "None")
