"""Every entry point works in folders with any characters in their names."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, command, tiny
from tests.helpers.server import server

ODD = "my run #3 50% done? 'größe' \"画\" " + "n" * 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / ODD
    path.mkdir()
    return path


def ended_well(folder: Path, stage: str, **parameters: object) -> str:
    """Call an entry point in a folder, with MLflow's default store there, and return its output."""
    done = subprocess.run(
        command(stage, **parameters), cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.processes
def test_a_stage_in_an_odd_folder(folder: Path) -> None:
    ended_well(folder, "prune", **tiny("prune", base_epochs=0, work_dir="work #1 100%"))
    assert sorted(path.name for path in folder.iterdir()) == ["mlflow.db", "mlruns", "work #1 100%"]
    # MLflow makes another folder, with percent signs.
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith("my")] == [ODD]


@pytest.mark.long
def test_every_entry_point_in_an_odd_folder(folder: Path) -> None:
    ended_well(folder, "main", **tiny("main", n_groups=2, method="random"))
    ended_well(folder, "tune", **tiny("tune", trials=2))
    ended_well(
        folder, "grouping_study", **tiny("grouping_study", epochs=0, methods="random", group_counts="2", repeats=1)
    )
    ended_well(folder, "contention", **tiny("contention", trainings="1", workers=0, contention_images=40))
    ended_well(folder, "promote", max_accuracy_drop=1)
    images = folder / "a b#?% é"
    images.mkdir()
    make = "import sys; from PIL import Image; Image.new('L', (8, 8)).save(sys.argv[1])"
    subprocess.run([sys.executable, "-c", make, str(images / "50% #1?.png")], check=True)
    (answer,) = ended_well(folder, "predict", images=str(images)).splitlines()
    assert "50% #1?.png" in json.loads(answer)["image"]
    page = next(folder.glob("mlruns/**/report.html"))
    assert 'href="sqlite' not in page.read_text()
    assert sorted(path.name for path in folder.iterdir()) == [
        ".sensai",
        images.name,
        "mlflow.db",
        "mlruns",
        "optuna.db",
    ]
    uri = "models:/sensai-ensemble@champion"
    read = f"import mlflow; m = mlflow.pyfunc.load_model({uri!r}); print('rows', len(m.predict(m.input_example)))"
    rows = subprocess.run([sys.executable, "-c", read], cwd=folder, capture_output=True, text=True, check=True)
    assert "rows" in rows.stdout
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    with server(command("serve", model_uri="models:/sensai-ensemble@champion"), folder, **environment):
        pass
    read = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from analysis import runs; print(len(runs.stage_runs('main')))"
    )
    done = subprocess.run([sys.executable, "-c", read], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
