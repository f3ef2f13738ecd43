"""The columns of MLflow's table of runs: name, data set, source; also of a run that `mlflow run` opened and that failed."""

import json

import pytest

from sensai.tracking.code_version import code_commit
from tests.conftest import Entry
from tests.helpers.pipeline import FinishedMain, Place

READ = {
    "main": "train, val, test",
    "baseline": "train, val",
    "activations": "train",
    "prune": "val",
    "retrain": "train, val",
    "evaluate": "val, test",
}


@pytest.mark.parametrize("stage", READ)
def test_a_stage_that_reads_data_logs_which(finished: FinishedMain, stage: str) -> None:
    (run,) = finished.place.of(stage)
    (logged,) = run.inputs.dataset_inputs
    assert logged.dataset.name == "tiny_data.py:tiny"
    assert run.data.tags["sensai.data_digest"].startswith(logged.dataset.digest)
    assert len(logged.dataset.digest) == 12
    assert json.loads(logged.dataset.source) == {"uri": finished.config.dataset}
    counts = json.loads(logged.dataset.profile)["images"]
    assert list(counts) == ["train", "val", "test"]
    assert all(counts.values())
    assert {tag.key: tag.value for tag in logged.tags} == {"mlflow.data.context": READ[stage]}


def test_a_stage_that_reads_none_logs_none(finished: FinishedMain) -> None:
    for stage in ("group", "register", "report"):
        (run,) = finished.place.of(stage)
        assert run.inputs.dataset_inputs == []


def test_the_source_of_a_run_is_its_entry_point_and_the_commit(finished: FinishedMain) -> None:
    commit = code_commit().removesuffix("-dirty")
    for run in finished.place.runs().values():
        stage = run.data.tags["sensai.stage"]
        assert run.data.tags["mlflow.source.name"] == stage
        assert run.data.tags["mlflow.source.type"] == "LOCAL"
        assert run.data.tags.get("mlflow.source.git.commit", "") == commit


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"ratio": 7}, "prune refused: ratio='7': "),
        ({"ratio": 0.3, "from_run": "none"}, "prune 0.3 small_cnn digits"),
        ({"ratio": 0.3, "dataset": "imagefolder", "data_dir": "nowhere"}, "prune 0.3 small_cnn nowhere"),
    ],
)
def test_a_run_that_mlflow_opened_and_that_failed_is_named_too(
    place: Place, launched: Entry, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, object], name: str
) -> None:
    opened = place.client.create_run(place.experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    assert launched("prune", **parameters).returncode == 2
    run = place.run(opened)
    assert run.info.status == "FAILED"
    assert run.info.run_name.startswith(name)
    assert run.data.tags["sensai.failure"].startswith("InputError: ")
