"""What starts quickly imports no more than it needs; the answers are those of the ensemble in memory."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sensai.data.images.resizing import fit
from sensai.ensemble.calibration import RAW
from sensai.registry.bundle import export_bundle
from sensai.registry.image_format import ImageFormat
from tests.conftest import ROOT, tiny
from tests.helpers.ensembles import NAMES, SHAPE, ensemble_of, images, probabilities
from tests.helpers.pipeline import FinishedMain

HEAVY = {"torch", "torchvision", "mlflow", "pandas", "scipy", "sklearn", "matplotlib", "plotly", "onnx", "optuna"}
# As `python -m sensai`, and lists in a file what has been imported.
_LISTED = """
import json, pathlib, runpy, sys
_, listed, *sys.argv[1:] = sys.argv
try:
    runpy.run_module("sensai", run_name="__main__")
finally:
    pathlib.Path(listed).write_text(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def imported(folder: Path, stage: str, parameters: Mapping[str, object]) -> tuple[str, set[str]]:
    """Return what a command prints, and the heavy libraries that its process has imported."""
    arguments = [text for name, value in parameters.items() for text in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, "-c", _LISTED, str(folder / "imported.json"), stage, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, set(json.loads((folder / "imported.json").read_text())) & HEAVY


@pytest.mark.processes
def test_a_folder_is_answered_without_torch_and_mlflow_as_the_ensemble_in_memory(tmp_path: Path) -> None:
    ensemble = ensemble_of([(3, 0), (2,), (1,)])
    export_bundle(ensemble, RAW, ImageFormat(), tmp_path)
    pixels = images(2)
    photograph = np.random.default_rng(0).integers(0, 256, (1, 1, 40, 31), np.uint8)
    (tmp_path / "pictures").mkdir()
    for number, picture in enumerate([*pixels[..., 0], photograph[0, 0]]):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{number}.png")
    printed, heavy = imported(tmp_path, "predict", {"model_uri": tmp_path, "images": tmp_path / "pictures"})
    assert not heavy
    # The reader of training data scales by torch.
    seen = np.concatenate([pixels, fit(photograph, SHAPE[:2], 1).transpose(0, 2, 3, 1)])
    expected = probabilities(ensemble, seen)
    answers = [json.loads(line) for line in printed.splitlines()]
    assert [each["label"] for each in answers] == [NAMES[best] for best in expected.argmax(1)]
    assert [each["probability"] for each in answers] == pytest.approx(list(expected.max(1)), abs=1e-5)
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.processes
@pytest.mark.parametrize("stage", ["retrain", pytest.param("register", marks=pytest.mark.long)])
def test_a_stage_that_the_store_answers_imports_what_mlflow_imports(
    finished: FinishedMain, stage: str, tmp_path: Path
) -> None:
    parameters = tiny(stage, work_dir=finished.place.folder / "work")
    # The first process of a machine asks torch about it for the fingerprint of an evaluation.
    if stage == "register":
        imported(tmp_path, stage, parameters)
    printed, heavy = imported(tmp_path, stage, parameters)
    assert f"{stage} run: {finished.upstream(stage)}" in printed
    assert heavy <= {"mlflow", "pandas", "scipy"}
