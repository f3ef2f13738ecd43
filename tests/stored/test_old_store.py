"""A store that the code of commit 36bdf97 wrote is read as before; its runs answer what they answered, and nothing else.

`make_store.py` has made `store.tar.xz`, and `expected.json`: what the old code read from it.
"""

import io
import json
import shutil
import socket
import sqlite3
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import mlflow.db
import numpy as np
import optuna
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from sensai.analysis import curves, runs
from sensai.config import CONFIGS, PredictConfig
from sensai.errors import InputError
from sensai.pipeline.session import Session
from sensai.pipeline.stage import Stage
from sensai.stages import activations, baseline, group, grouping_study, predict, prune, retrain, tune
from sensai.tracking import tags
from tests.helpers.pipeline import Place
from tests.stored.make_store import (
    CONTINUED,
    CUT,
    EPOCHS,
    KILLED,
    PIPELINE,
    RUNS,
    SPACE,
    TRAINED,
    TRAINING,
    old_images,
    tables,
    variants,
)

HERE = Path(__file__).parent
EXPECTED: dict[str, Any] = json.loads((HERE / "expected.json").read_text())
MODEL = "models:/sensai-ensemble/1"
STAGE: dict[str, Stage[Any]] = {
    each.name: each for each in (baseline.stage, activations.stage, group.stage, prune.stage, retrain.stage)
}
# What the old store has of absolute places.
PLACES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the old store as the archive has it, with the tables of the installed MLflow."""
    folder = tmp_path_factory.mktemp("archive")
    with tarfile.open(HERE / "store.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    # A later MLflow asks its users to do this first.
    mlflow.db.upgrade.main([f"sqlite:///{folder}/mlflow.db"], standalone_mode=False)
    return folder


def moved(archive: Path, folder: Path) -> Place:
    """Return a copy of the old store, as if it had been written in another folder of this machine."""
    shutil.copytree(archive, folder, dirs_exist_ok=True)
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        for table, column in PLACES.items():
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (EXPECTED["folder"], str(folder))
            )
        database.execute(
            "UPDATE tags SET value = json_set(value, '$.host', ?) WHERE key = ?", (socket.gethostname(), tags.PROCESS)
        )
    return Place(folder, "0")


@pytest.fixture(scope="module")
def shared(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return moved(archive, tmp_path_factory.mktemp("old"))


@pytest.fixture
def read_only(shared: Place) -> Iterator[Place]:
    """Yield the old store for tests that only read from it."""
    with shared.active() as place:
        yield place


@pytest.fixture
def place(archive: Path, tmp_path: Path) -> Iterator[Place]:
    """Yield the test's own old store; the test runs in its folder."""
    with moved(archive, tmp_path).active() as made:
        yield made


# A training loss that no epoch has.
MARK = 1234.5


def mark(path: Path) -> None:
    """Change the loss of the first epoch in a checkpoint, so that it is known again."""
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        metadata = file.metadata()
    progress = json.loads(metadata["progress"])
    progress["history"][0]["train_loss"] = MARK
    save_file(tensors, path, metadata=metadata | {"progress": json.dumps(progress)})


def expected(table: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(EXPECTED["tables"][table]), index_col=0)


def config_of(stage: str, parameters: Mapping[str, object]) -> Any:
    """Return a stage's configuration with those of some parameters that it has."""
    config = CONFIGS[stage]
    return config(**{name: value for name, value in parameters.items() if name in config.model_fields})


def old_lineage(name: str) -> dict[str, str]:
    """Return stage -> run id, up to `retrain`, of what a call of the old code made."""
    config = config_of("retrain", RUNS[name][1])
    found = expected("retrain")
    for parameter in ("n_groups", "method", "ratio", "policy", "loss", "seed", "epochs"):
        found = found[found[f"config.{parameter}"] == getattr(config, parameter)]
    (row,) = found.to_dict("records")
    return {stage: row[f"upstream.{stage}"] for stage in PIPELINE[:-1]} | {"retrain": row["run_id"]}


# Columns that the old code did not have, by table.
ADDED = {"studies": ["best_calibrated_val_accuracy"]}


def without(table: str, columns: list[str]) -> str:
    """Return a table as CSV without some columns, which must be empty."""
    frame = pd.read_csv(io.StringIO(table), index_col=0, dtype="str", keep_default_na=False)
    assert (frame[columns] == "").all(axis=None)
    return frame.drop(columns=columns).to_csv()


ROLES = {"ensemble", "control"}


def without_roles(table: str) -> str:
    """Return a table as CSV without the roles of its runs."""
    frame = pd.read_csv(io.StringIO(table), index_col=0, dtype="str", keep_default_na=False)
    roles = frame.pop("role") if "role" in frame else frame[frame.index == "role"].to_numpy().ravel()
    assert set(roles) <= {*ROLES, ""}
    return frame.drop(index="role", errors="ignore").to_csv()


def test_run_tables_are_as_the_old_code_read_them(read_only: Place) -> None:
    found = tables(runs, curves, wide=True)
    assert found.keys() == EXPECTED["tables"].keys()
    # The old code knew no average precision, and no roles.
    members = pd.read_csv(io.StringIO(found.pop("members")), index_col=0, dtype=str)
    assert members.pop("average_precision").isna().all()
    assert set(members.pop("role")) <= ROLES
    pd.testing.assert_frame_equal(
        members, pd.read_csv(io.StringIO(EXPECTED["tables"]["members"]), index_col=0, dtype=str)
    )
    for name, table in found.items():
        as_before = without(without_roles(table), ADDED.get(name, []))
        assert as_before == EXPECTED["tables"][name], name


@pytest.mark.parametrize("name", ["main", "joint", "threshold"])
def test_every_stage_up_to_retrain_is_answered_by_the_old_runs(place: Place, name: str) -> None:
    before = place.runs()
    parameters, old = RUNS[name][1], old_lineage(name)
    assert {stage: STAGE[stage].run(config_of(stage, parameters)) for stage in PIPELINE} == old
    assert place.new_runs(before) == []


@pytest.mark.parametrize("stage", PIPELINE)
def test_fingerprints_are_those_of_the_old_code(read_only: Place, stage: str) -> None:
    session, configs = Session.connect(), variants(CONFIGS[stage])
    assert [STAGE[stage].fingerprint(config, session) for config in configs] == EXPECTED["fingerprints"][stage]


# Of each stage, and one that the old code did not have.
OTHERS: tuple[tuple[str, dict[str, object]], ...] = (
    ("baseline", {"base_lr": 0.2}),
    ("activations", {"zero_threshold": 0.01}),
    ("group", {"n_groups": 3}),
    ("prune", {"min_channels": 2}),
    ("retrain", {"lr": 0.1}),
    ("retrain", {"stop_rules": "plateau", "patience": 1}),
)


@pytest.mark.parametrize(("changed", "other"), OTHERS)
def test_no_old_run_answers_for_other_parameters(read_only: Place, changed: str, other: dict[str, object]) -> None:
    session = Session.connect()
    for stage in PIPELINE:
        fingerprint = STAGE[stage].fingerprint(config_of(stage, TRAINED | other), session)
        found = session.store.find(stage, fingerprint)
        # Earlier stages are as they were, and their runs still answer.
        assert (found is None) == (PIPELINE.index(stage) >= PIPELINE.index(changed)), stage


@pytest.mark.parametrize("stage", PIPELINE)
def test_no_old_run_answers_for_a_later_version_of_its_stage(read_only: Place, stage: str) -> None:
    session, changed = Session.connect(), replace(STAGE[stage], version=STAGE[stage].version + 1)
    config = config_of(stage, TRAINED)
    assert session.store.find(stage, STAGE[stage].fingerprint(config, session)) is not None
    assert session.store.find(stage, changed.fingerprint(config, session)) is None


def test_a_retrain_stands_on_an_old_prune(place: Place) -> None:
    old = old_lineage("threshold")
    given = TRAINING | {"from_run": old["prune"]}
    # The data, the cut and what else came before are inherited.
    assert retrain.run(config_of("retrain", given)) == old["retrain"]
    run = place.run(retrain.run(config_of("retrain", given | {"epochs": 1})))
    assert {stage: run.data.tags[tags.UPSTREAM + stage] for stage in PIPELINE[:-1]} == {
        stage: old[stage] for stage in PIPELINE[:-1]
    }
    config = json.loads(run.data.tags[tags.CONFIG])
    assert {name: str(config[name]) for name in (*CUT, "apoz_threshold", "epochs")} == {
        **CUT,
        "apoz_threshold": "0.3",
        "device": "auto",
        "epochs": "1",
    }
    # What it kept of the channels is in the old plans.
    (row,) = expected("prune")[lambda prunes: prunes["run_id"] == old["prune"]].to_dict("records")
    sizes = runs.members([run.info.run_id])
    assert sizes["params"].max() == row["metrics.params_max"]


def test_the_old_version_answers_as_before(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = mlflow.pyfunc.load_model(MODEL)
    images = old_images()
    probabilities = np.array(EXPECTED["probabilities"])
    np.testing.assert_allclose(model.predict(images).to_numpy(), probabilities, atol=1e-5)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(images.tobytes())))
    capsys.readouterr()
    predict.run(PredictConfig(model_uri=MODEL, frames="raw"))
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [int(answer["label"]) for answer in answers] == list(probabilities.argmax(1))
    np.testing.assert_allclose([answer["probability"] for answer in answers], probabilities.max(1), atol=1e-4)


def study(place: Place, name: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{place.folder}/optuna.db").trials


def test_the_old_study_was_ranked_by_another_accuracy_and_stays_as_it_is(place: Place) -> None:
    Path("space.json").write_text(json.dumps(SPACE))
    old = study(place, "old")
    with pytest.raises(InputError, match=r"study='old': stands in the storage with another .*measure of accuracy"):
        tune.run(config_of("tune", CONTINUED))
    assert study(place, "old") == old


def test_old_runs_are_no_trials_of_a_new_study_but_answer_what_it_asks_for(place: Place) -> None:
    Path("space.json").write_text(json.dumps(SPACE))
    before = place.runs()
    run_id = tune.run(config_of("tune", CONTINUED | {"study": "new", "trials": "1"}))
    old, *_ = study(place, "old")
    (trial,) = study(place, "new")
    # The seed draws what it drew for the old code, and the old run stands for it.
    assert trial.params == EXPECTED["trials"][0]
    assert {run.data.tags[tags.STAGE] for run in place.new_runs(before)} == {"tune", "trial"}
    (row,) = pd.read_csv(place.artifact(run_id, "trials.csv")).to_dict("records")
    assert (row["source"], row["run_id"]) == ("tune", old.user_attrs["run_id"])
    # The new accuracy is computed from the old members; the raw one is as it was.
    assert [row["val_accuracy"], row["cost"]] == old.values
    assert [row["calibrated_val_accuracy"], row["cost"]] == trial.values
    (before_it,) = expected("studies").to_dict("records")
    newest, oldest = runs.studies().to_dict("records")
    assert oldest["run_id"] == before_it["run_id"]
    assert (newest["study"], newest["trials"]) == ("new", 1)


@pytest.mark.long
def test_old_cells_are_evaluated_anew_and_not_retrained(place: Place) -> None:
    """Since version 8 of `evaluate` members are judged at fitted thresholds, so old cells are no cells of a new study."""
    (old,) = expected("cell")["parent"].unique()
    parameters = RUNS["study"][1]
    logged = {name: value for name, value in parameters.items() if name != "repeats"} | {"source": "logged"}
    with pytest.raises(InputError, match="source='logged'"):
        grouping_study.run(config_of("grouping_study", logged))
    before = place.runs()
    assert grouping_study.run(config_of("grouping_study", parameters)) == old
    longer = parameters | {"repeats": str(int(parameters["repeats"]) + 1)}
    cells = pd.read_csv(place.artifact(grouping_study.run(config_of("grouping_study", longer)), "cells.csv"))
    old_cells = pd.read_csv(place.artifact(old, "cells.csv"))
    same = ["method", "n_groups", "ratio", "seed", "accuracy", "flops_max"]
    found = old_cells.merge(cells, on=same[:4], suffixes=("", "_now"))
    assert len(found) == len(old_cells)
    assert set(found["evaluate_run_now"]) - set(before)
    assert found["accuracy_now"].tolist() == found["accuracy"].tolist()
    retrained = {place.run(each).data.tags["sensai.upstream.retrain"] for each in found["evaluate_run_now"]}
    assert retrained <= set(before)


def test_a_killed_training_is_resumed(place: Place) -> None:
    (killed,) = expected("retrain")[lambda retrains: retrains["status"] == "RUNNING"].to_dict("records")
    (checkpoint,) = Path(".sensai/checkpoints", killed["fingerprint"]).glob(f"cut_1/member_000/*{EPOCHS}.safetensors")
    mark(checkpoint)
    run_id = retrain.run(config_of("retrain", KILLED))
    assert place.run(killed["run_id"]).info.status == "KILLED"
    assert place.run(run_id).data.tags[tags.FINGERPRINT] == killed["fingerprint"]
    table = curves.curves([run_id])
    assert (table["train_loss"] == MARK).sum() == 1
    assert set(table.groupby("member")["epoch"].max()) == {int(KILLED["epochs"]) - 1}
    assert not any(Path(".sensai/checkpoints").glob("**/*.safetensors"))
