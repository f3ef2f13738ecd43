"""Hundreds of classes on PostgreSQL, which unlike SQLite refuses values that are too long for a column."""

import json
import os
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from PIL import Image

from sensai.analysis import runs
from sensai.config import CONFIGS
from sensai.stages import main, predict, promote
from tests.conftest import ROOT, tiny

pytestmark = [pytest.mark.long, pytest.mark.processes]

_LONGEST = 1000
# They are as long as the parameters, the yardsticks and the descriptions of stages are.
_OF_ONE_LENGTH = {"sensai.config", "sensai.verdict", "mlflow.note.content"}
_GROUPS = 3


@pytest.fixture
def store(postgres_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> mlflow.MlflowClient:
    """Return an empty store in a database of the test, with artifacts in its folder."""
    client = mlflow.MlflowClient(postgres_database)
    experiment = client.create_experiment("test", artifact_location=(tmp_path / "artifacts").as_uri())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgres_database)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    mlflow.set_tracking_uri(postgres_database)
    return client


@pytest.mark.parametrize(
    ("classes", "shared"),
    [
        pytest.param(300, {}, id="300"),
        pytest.param(1000, {}, id="1000"),
        pytest.param(1000, {"overlap": 2, "loss": "joint_kd", "yardsticks": "control,replicas"}, id="1000-shared"),
    ],
)
def test_all_stages_work_and_nothing_grows_with_the_classes(
    classes: int, shared: dict[str, Any], store: mlflow.MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CONFIGS["main"](
        **tiny(
            "main",
            **{"yardsticks": "control"} | shared,
            dataset=f"{ROOT}/tests/helpers/many_classes.py:classes_{classes}",
            method="random",
            n_groups=_GROUPS,
            val_fraction=0.25,
            work_dir=str(tmp_path / "work"),
        )
    )
    main.run(config)
    promote.run(
        CONFIGS["promote"](
            model_name=config.model_name, max_accuracy_drop=1, allow_no_gain=True, work_dir=str(tmp_path / "work")
        )
    )
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "image.png")
    capsys.readouterr()
    predict.run(
        CONFIGS["predict"](model_uri=f"models:/{config.model_name}@champion", images=str(tmp_path / "image.png"))
    )
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["label"].startswith("n000")

    found = store.search_runs([os.environ["MLFLOW_EXPERIMENT_ID"]])
    assert {run.info.status for run in found} == {"FINISHED"}
    texts = [
        (key, value)
        for run in found
        for values in (run.data.tags, run.data.params)
        for key, value in values.items()
        if key not in _OF_ONE_LENGTH
    ]
    for version in store.search_model_versions():
        texts += version.tags.items()
    assert [key for key, value in texts if len(value) > _LONGEST] == []
    assert max(len(run.data.metrics) for run in found) < 200

    members = runs.members()
    # Retrained and evaluated: the groups, and the control (and replicas) of all classes.
    whole = 1 + ("replicas" in config.yardsticks) * _GROUPS
    assert len(members) == 2 * (_GROUPS + whole)
    sizes = sorted(members[members["split"] == "val"]["classes"].str.count("name of some length"))
    assert sum(sizes[:_GROUPS]) == config.overlap * classes
    assert sizes[_GROUPS:] == whole * [classes]
