"""Members that share classes, from groups to the registered version: replicas, overlapping groups, a member of all classes."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from sensai.ensemble.calibration import class_contrasts
from sensai.stages import group, prune, register, retrain
from sensai.stages.evaluate import combining
from sensai.tracking import Store
from tests.helpers.pipeline import FinishedMain, Place

KINDS = {
    "replicas": {"method": "replicas", "n_groups": 4, "loss": "kd"},
    # Raw scores have code of their own in a registered version. Those of members trained jointly are not comparable.
    "overlap": {"method": "singletons", "overlap": 2, "loss": "kd", "combine": "raw"},
    "beside one of all": {"method": "file", "groups_file": "groups.json", "loss": "joint"},
}
GROUPS = {
    "replicas": [(0, 1, 2)] * 4,
    "overlap": [(0, 1), (0, 2), (1, 2)],
    "beside one of all": [(0, 1, 2), (1, 2)],
}


@pytest.fixture
def place(finished_main: FinishedMain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    Path("groups.json").write_text("[[0, 1, 2], [1, 2]]")
    return finished_main.place.copy(tmp_path)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("replicas", marks=pytest.mark.long),
        "overlap",
        pytest.param("beside one of all", marks=pytest.mark.long),
    ],
)
def test_a_version_answers_as_its_members_do(place: Place, kind: str) -> None:
    with place.active():
        registered = register.run(place.config("register", **KINDS[kind], epochs=2))
        runs = {stage: place.run(registered).data.tags[f"sensai.upstream.{stage}"] for stage in ("retrain", "evaluate")}
        store = Store.connect()
        ensemble, calibration = retrain.load(store, runs["retrain"]), combining.load(store, runs["evaluate"])
        version = int(place.run(registered).data.metrics["version"])
        model = mlflow.pyfunc.load_model(f"models:/{place.config('register').model_name}/{version}")
    assert sorted(ensemble.groups) == GROUPS[kind]
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    with torch.no_grad():
        normalised = ensemble.normalization(torch.from_numpy(images).permute(0, 3, 1, 2))
        outputs = [each.numpy() for each in ensemble.member_logits(normalised)]
    answers = model.predict(images).to_numpy()
    np.testing.assert_allclose(answers, calibration(outputs, ensemble.groups), atol=1e-5)
    assert calibration.weight is None or calibration.weight.shape == class_contrasts(ensemble.groups).shape
    evaluated = place.run(runs["evaluate"]).data.metrics
    assert evaluated["accuracy"] > 0.5
    members = pd.read_csv(place.artifact(runs["evaluate"], "members.csv"))
    assert len(members) == len(ensemble.members)
    # Errors are between groups or within them only where each class has one.
    assert "errors_between_groups" not in evaluated
    assert "confusion_groups.csv" not in place.artifacts(runs["evaluate"])
    assert "val_nll_log_linear" in evaluated


def test_replicas_have_plans_and_weights_of_their_own(place: Place) -> None:
    with place.active():
        chosen = {
            kind: prune.run(place.config("prune", method="replicas", n_groups=3, replica_plans=kind))
            for kind in ("random", "same")
        }
        retrained = retrain.run(place.config("retrain", method="replicas", n_groups=3, replica_plans="same", epochs=1))
        ensemble = retrain.load(Store.connect(), retrained)
    plans = {
        kind: [member["removed"] for member in json.loads(place.artifact(run_id, "plans.json").read_text())["members"]]
        for kind, run_id in chosen.items()
    }
    assert plans["same"][0] == plans["same"][1] == plans["same"][2]
    assert plans["random"][0] != plans["random"][1] != plans["random"][2]
    # From equal weights and plans their own batches make them different.
    first, second, _ = (
        torch.cat([each.flatten() for each in member.network.parameters()]) for member in ensemble.members
    )
    assert not torch.allclose(first, second, atol=1e-4)


def test_a_cached_grouping_is_not_taken_for_another_overlap(place: Place) -> None:
    with place.active():
        runs = {overlap: group.run(place.config("group", method="singletons", overlap=overlap)) for overlap in (1, 2)}
        assert group.run(place.config("group", method="singletons", overlap=2)) == runs[2]
    groups = {
        overlap: json.loads(place.artifact(run_id, "groups.json").read_text()) for overlap, run_id in runs.items()
    }
    assert groups[1]["groups"] == [[0], [1], [2]]
    assert sorted(map(tuple, groups[2]["groups"])) == GROUPS["overlap"]
    assert "overlap=2" in place.run(runs[2]).info.run_name


def test_a_single_group_overlaps_with_nothing(place: Place) -> None:
    """So `overlap` is ignored, also where it is given by name."""
    with place.active():
        control = group.run(place.config("group", method="random", n_groups=1))
        assert group.run(place.config("group", method="random", n_groups=1, overlap=2)) == control


def test_all_classes_judge_one_common_plan(place: Place) -> None:
    with place.active():
        runs = {
            classes: prune.run(place.config("prune", method="singletons", plan_classes=classes))
            for classes in ("own", "all")
        }
        control = prune.run(place.config("prune", method="random", n_groups=1))
    plans = {
        name: [each["removed"] for each in json.loads(place.artifact(run_id, "plans.json").read_text())["members"]]
        for name, run_id in {**runs, "control": control}.items()
    }
    assert plans["all"] == plans["control"] * 3
    assert plans["own"][0] != plans["own"][1]


def test_members_start_from_random_weights(place: Place) -> None:
    """With a learning rate of next to nothing they end where they began: as they were cut, or elsewhere."""
    still = {"lr": 1e-9, "weight_decay": 0, "epochs": 1}
    starts = {"cut": {"epochs": 0}, "base": still, "random": {**still, "initial_weights": "random"}}
    with place.active():
        runs = {name: retrain.run(place.config("retrain", **given)) for name, given in starts.items()}
        ensembles = {name: retrain.load(Store.connect(), run_id) for name, run_id in runs.items()}
    first = {name: next(each.members[0].network.parameters()).detach() for name, each in ensembles.items()}
    torch.testing.assert_close(first["base"], first["cut"], rtol=0, atol=1e-5)
    assert not torch.allclose(first["random"], first["cut"], atol=1e-2)
