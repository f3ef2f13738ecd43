"""Studies in YAML files: their cells can be configured, and each finished one leaves a file from which the study goes on."""

import sys
from pathlib import Path

import pytest
import yaml

from analysis.studies import run_study
from sensai.analysis.cell_shards import read_shards
from tests.conftest import ROOT, tiny
from tests.helpers.pipeline import FinishedMain, Place

STUDIES = sorted((ROOT / "analysis/studies").glob("*.yaml"))


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_every_cell_can_be_configured(file: Path) -> None:
    study = yaml.safe_load(file.read_text())
    cells = [(str(cell), config) for cell, config in run_study.cells(study, study["parameters"])]
    assert len({cell for cell, _ in cells}) == len(cells) >= len(study["rows"])
    # A combination that is left open would be chosen per row, and rows would differ in it too.
    assert {config.combine for _, config in cells} != {None}


def study(file: Path, seeds: list[int]) -> None:
    shared = tiny("evaluate", combine="vector", seed=0)
    rows = [
        {"row": "control", "role": "control", "parameters": {"method": "random", "n_groups": 1}},
        {"row": "pairs", "role": "ensemble", "parameters": {"method": "singletons", "overlap": 2}, "seeds": [0]},
    ]
    file.write_text(yaml.safe_dump({"seeds": seeds, "parameters": shared, "rows": rows}))


@pytest.mark.long
def test_a_study_goes_on_from_its_finished_cells(
    finished_main: FinishedMain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place: Place = finished_main.place.copy(tmp_path)
    arguments = ["run_study", "own.yaml", "--work_dir", str(tmp_path / "work"), "--results", "results"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", arguments)
    study(Path("own.yaml"), [0])
    with place.active():
        run_study.main()
        first = read_shards(Path("results/own"))
        study(Path("own.yaml"), [0, 1])
        capsys.readouterr()
        run_study.main()
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if "seed" in line] == [
        "control, seed 1"
    ]
    rows = read_shards(Path("results/own"))
    assert sorted(zip(rows["row"], rows["seed"], strict=True)) == [("control", 0), ("control", 1), ("pairs", 0)]
    assert set(first["run_id"]) < set(rows["run_id"])
    evaluated = place.run(rows[rows["row"] == "pairs"]["run_id"].item()).data.metrics
    assert rows[rows["row"] == "pairs"]["accuracy"].item() == pytest.approx(evaluated["accuracy"])
    assert rows["train_images"].nunique() == 1
