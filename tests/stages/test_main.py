"""`main`: the whole pipeline on tiny data, and parameters that affect all stages."""

import json
import pickletools
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sensai import evaluation
from sensai.ensemble.calibration import cross_fitted
from sensai.errors import InputError
from sensai.pipeline.session import dataset_of
from sensai.runtimes import candidates
from sensai.stages import evaluate, main, report, retrain
from sensai.stages.evaluate import combining
from sensai.stages.evaluate.measured_host import timing_host
from sensai.tracking import Store
from tests.conftest import ROOT
from tests.helpers.pipeline import FinishedMain, Place, parent_of, stage_of

STAGES = ("baseline", "activations", "group", "prune", "retrain", "evaluate", "register", "report")

# What every stage logs, as DESIGN has it.
ARTIFACTS = {
    "baseline": {"model/weights.safetensors", "learning_curve.png"},
    "activations": {"statistics.safetensors", "sites.json", "class_similarity.csv", "class_similarity.png"},
    "group": {"groups.json", "sizes.csv", "coupling.csv", "coupling.png"},
    "prune": {"plans.json", "layers.csv", "members.csv", "widths.png"},
    "retrain": {"members/ensemble.json", *(f"members/member_00{number}.safetensors" for number in range(3))},
    "evaluate": {
        *("answers.csv", "members.csv", "members.png", "confusion.csv", "confusion.png"),
        *("combine.csv", "calibration.json", "reliability.png", "runtimes.csv", "runtimes.png"),
    },
    "register": set(),
    "report": {"report.html"},
}
METRICS = {
    "baseline": {"val_accuracy", "params", "flops", "epochs_run", "seconds"},
    "activations": {"images_per_s"},
    "group": {"groups", "coupling_between", "predicted_flops_max", "predicted_flops_total"},
    "prune": {
        *(
            "val_accuracy",
            "calibrated_val_accuracy",
            "val_in_group_accuracy",
            "members",
            "channels_kept",
            "proof_error",
        ),
        *("params_base", "params_max", "params_total", "flops_base", "flops_max", "flops_total"),
    },
    "retrain": {
        *(
            "val_accuracy",
            "calibrated_val_accuracy",
            "val_in_group_accuracy",
            "epochs_saved",
            "images_per_s",
            "seconds",
        ),
    },
    "evaluate": {
        *("accuracy", "top5_accuracy", "base_accuracy", "accuracy_drop", "binary_accuracy_mean", "binary_accuracy_min"),
        "members",
        *("params_base", "params_max", "params_total", "flops_base", "flops_max", "flops_total", "flops_speedup"),
        *("latency_base_ms", "latency_member_max_ms", "latency_ensemble_ms"),
        *("speedup_critical_path", "speedup_ensemble", "overhead_ensemble", "ece", "nll", "base_ece", "base_nll"),
        *(
            f"{split}{metric}_{method}"
            for split in ("", "val_")
            for metric in ("accuracy", "ece", "nll")
            for method in ("raw", "temperature", "vector", "logistic")
        ),
    },
    "register": {"version"},
    "report": set(),
}
PICKLED = {".pkl", ".pickle", ".pt", ".pth", ".joblib", ".cloudpickle"}


def test_all_runs_are_nested_below_one_parent(finished: FinishedMain) -> None:
    runs = finished.place.runs()
    stages = sorted(stage_of(run) for run in runs.values())
    # Three members are retrained and three are tested.
    assert stages == sorted(["main", *STAGES, *["member"] * 6])
    assert parent_of(runs[finished.run_id]) is None
    assert {parent_of(run) for run_id, run in runs.items() if run_id != finished.run_id} == {finished.run_id}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


def test_the_parent_carries_the_result(finished: FinishedMain) -> None:
    run = finished.place.run(finished.run_id)
    evaluated = finished.place.run(finished.upstream("evaluate")).data.metrics
    assert run.data.metrics == {**evaluated, "version": 1.0}
    assert stage_of(run) == "main"
    assert json.loads(run.data.tags["sensai.config"]) == finished.config.model_dump(mode="json")
    assert set(run.data.params) == finished.config.own_values().keys() > {"dataset", "method", "ratio", "epochs"}
    assert "sensai.fingerprint" not in run.data.tags


def test_the_ui_describes_runs_versions_and_the_experiment(finished: FinishedMain) -> None:
    client = finished.place.client
    for stage in ("main", *STAGES):
        (run,) = finished.place.of(stage)
        assert run.data.tags["mlflow.note.content"].startswith(f"{stage}: ")
        assert "\n" not in run.data.tags["mlflow.note.content"].partition("\n\n")[0]
    name = finished.config.model_name
    version = client.get_model_version(name, "1").description
    accuracy = finished.place.run(finished.run_id).data.metrics["accuracy"]
    assert version.startswith("3 members of `small_cnn` on ")
    assert f"| ensemble | {accuracy:.4f} |" in version
    assert "champion" in client.get_registered_model(name).description
    experiment = client.get_experiment(finished.place.experiment)
    assert "sensai.stage" in experiment.tags["mlflow.note.content"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_logs_what_it_should(finished: FinishedMain, stage: str) -> None:
    run_id = finished.upstream(stage)
    run = finished.place.run(run_id)
    assert finished.place.artifacts(run_id) >= ARTIFACTS[stage]
    assert set(run.data.metrics) >= METRICS[stage]
    assert np.isfinite(list(run.data.metrics.values())).all()
    expected = {f"sensai.upstream.{name}": finished.upstream(name) for name in STAGES[: min(STAGES.index(stage), 6)]}
    assert {key: value for key, value in run.data.tags.items() if "upstream" in key} == expected


def test_the_result_adds_up(finished: FinishedMain) -> None:
    run_id = finished.upstream("evaluate")
    metrics = finished.place.run(run_id).data.metrics
    members = pd.read_csv(finished.place.artifact(run_id, "members.csv"))
    confusion = pd.read_csv(finished.place.artifact(run_id, "confusion.csv"))
    assert confusion.to_numpy().sum() == 30
    assert metrics["accuracy"] == pytest.approx(np.trace(confusion.to_numpy()) / 30)
    assert metrics["accuracy_drop"] == pytest.approx(metrics["base_accuracy"] - metrics["accuracy"])
    answers = pd.read_csv(finished.place.artifact(run_id, "answers.csv"))
    assert {name: str(kind) for name, kind in answers.dtypes.items()} == dict.fromkeys(
        ["label", "ensemble", "base"], "int64"
    )
    assert answers["label"].tolist() == dataset_of(finished.config).test.labels.tolist()
    assert (answers["ensemble"] == answers["label"]).mean() == pytest.approx(metrics["accuracy"])
    assert (answers["base"] == answers["label"]).mean() == pytest.approx(metrics["base_accuracy"])
    assert (
        pd.crosstab(answers["label"], answers["ensemble"]).reindex(columns=range(3), fill_value=0)
        == confusion.to_numpy()
    ).all(axis=None)
    # The classes are separable, and the base model has learnt so.
    assert metrics["base_accuracy"] == 1.0
    assert list(members["classes"]) == list(confusion.columns) == ["top", "middle", "bottom"]
    assert metrics["flops_max"] == members["flops"].max() < metrics["flops_base"]
    assert metrics["flops_speedup"] == pytest.approx(metrics["flops_base"] / metrics["flops_max"])
    assert metrics["params_total"] == members["params"].sum()
    group = finished.upstream("group")
    sizes = pd.read_csv(finished.place.artifact(group, "sizes.csv"))
    assert sizes[["classes", "params", "flops"]].equals(members[["classes", "params", "flops"]])
    predicted = finished.place.run(group).data.metrics
    assert predicted["predicted_flops_max"] == metrics["flops_max"]
    assert predicted["predicted_flops_total"] == metrics["flops_total"]
    assert metrics["binary_accuracy_min"] == members["binary_accuracy"].min()
    pruned = finished.place.run(finished.upstream("prune")).data.metrics
    assert {name: metrics[name] for name in pruned if name.startswith(("flops", "params"))} == {
        name: value for name, value in pruned.items() if name.startswith(("flops", "params"))
    }


def test_all_combinations_are_judged_and_the_chosen_one_answers(finished: FinishedMain) -> None:
    run_id = finished.upstream("evaluate")
    metrics = finished.place.run(run_id).data.metrics
    table = pd.read_csv(finished.place.artifact(run_id, "combine.csv")).set_index("combine")
    methods = ["raw", "temperature", "vector", "logistic"]
    assert list(table.index) == [*methods, "base model"]
    assert list(table.columns) == [f"{split}{name}" for split in ("", "val_") for name in ("accuracy", "ece", "nll")]
    for method in methods:
        assert {name: metrics[f"{name}_{method}"] for name in table} == pytest.approx(table.loc[method].to_dict())
    assert table["accuracy"]["base model"] == pytest.approx(metrics["base_accuracy"])
    outputs, labels = member_outputs(finished), dataset_of(finished.config).test.labels
    chosen = combining.load(Store.connect(), run_id)
    assert (chosen.method, chosen.threshold) == (table["val_nll"].drop("base model").idxmin(), None)
    probabilities = chosen([logits for _, logits in outputs], [classes for classes, _ in outputs])
    answers = pd.read_csv(finished.place.artifact(run_id, "answers.csv"))
    assert answers["ensemble"].tolist() == probabilities.argmax(1).tolist()
    for name in ("accuracy", "nll"):
        assert metrics[name] == pytest.approx(evaluation.probability_metrics(probabilities, labels)[name])
        assert metrics[name] == metrics[f"{name}_{chosen.method}"]
    # On validation images each is judged by what was fitted without them.
    val, val_outputs = dataset_of(finished.config).val, member_outputs(finished, "val")
    groups, logits = [classes for classes, _ in val_outputs], [each for _, each in val_outputs]
    for method in methods:
        held_out = evaluation.probability_metrics(cross_fitted(method, logits, groups, val.labels), val.labels)
        assert table["val_nll"][method] == pytest.approx(held_out["nll"], rel=1e-4)
    assert metrics["val_nll"] == pytest.approx(table["val_nll"][methods].min())
    # `tune` ranks by the accuracy of the same combination.
    retrained = finished.place.run(finished.upstream("retrain")).data.metrics
    assert retrained["calibrated_val_accuracy"] == metrics["val_accuracy"]


def test_another_combination_that_rejects_some_images(place: Place) -> None:
    retrained = next(run for run in place.of("retrain"))
    before = place.runs()
    config = {"from_run": retrained.info.run_id, "combine": "raw", "reject": 0.2}
    run_id = evaluate.run(place.config("evaluate", **config))
    # Nothing is trained again.
    assert {stage_of(run) for run in place.new_runs(before)} == {"evaluate", "member"}
    metrics = place.run(run_id).data.metrics
    assert metrics["accuracy"] == metrics["accuracy_raw"]
    stored = combining.load(Store.connect(), run_id)
    assert stored.method == "raw"
    assert 0 < stored.threshold < 1
    assert 0 <= metrics["rejected"] < 1
    assert "accuracy_answered" in metrics


def test_the_evaluation_says_what_makes_it_comparable(finished: FinishedMain) -> None:
    run_tags = finished.place.run(finished.upstream("evaluate")).data.tags
    config = finished.config
    assert json.loads(run_tags["sensai.host"]) == timing_host(
        config.runtime, torch.device("cpu"), config.latency_batch_size
    )
    assert run_tags["sensai.val_digest"] == dataset_of(config).val_digest
    # Its base model is as good on test images as on validation images.
    assert "sensai.leakage" not in run_tags


def test_without_validation_data_probabilities_are_raw_and_thresholds_natural(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    few = {"dataset": f"{ROOT}/tests/helpers/tiny_data.py:one_of_each", "base_epochs": 1, "epochs": 0}
    for given, said in (
        ({"combine": "vector"}, "combine='vector': is fitted on"),
        ({"reject": 0.1}, "reject=0.1: is a"),
        ({"int8": True}, "int8=true: takes"),
    ):
        with pytest.raises(InputError, match=f"{said}.* has none"):
            evaluate.run(place.config("evaluate", **few, **given))
    before = place.runs()
    run_id = evaluate.run(place.config("evaluate", **few))
    metrics = place.run(run_id).data.metrics
    assert metrics["nll"] == metrics["nll_raw"]
    assert not {name for name in metrics if name.startswith("val_") or name.endswith(("_vector", "_logistic"))}
    assert pd.read_csv(place.artifact(run_id, "combine.csv"))["combine"].tolist() == ["raw", "base model"]
    assert combining.load(Store.connect(), run_id).method == "raw"
    assert "natural thresholds, as there are no validation data" in caplog.text
    members = [run for run in place.new_runs(before) if run.data.tags.get("sensai.upstream.evaluate") == run_id]
    assert [run.data.tags["sensai.thresholds"] for run in members] == ["natural"] * 3


def test_a_report_without_validation_data_shows_what_was_learnt(place: Place) -> None:
    dataset = f"{ROOT}/tests/helpers/tiny_data.py:one_of_each"
    few = {"dataset": dataset, "base_epochs": 1, "epochs": 2, "method": "random", "n_groups": 1}
    page = place.artifact(report.run(place.config("report", **few)), "report.html").read_text()
    assert "One line per member: its train loss on training images" in page


def test_members_are_validated_by_retrain_and_tested_by_evaluate(finished: FinishedMain) -> None:
    members = finished.place.of("member")
    by_split = {
        split: {run.data.tags["sensai.member"]: run for run in members if run.data.tags["sensai.split"] == split}
        for split in ("val", "test")
    }
    assert set(by_split["val"]) == set(by_split["test"]) == {"0", "1", "2"}
    sizes = pd.read_csv(finished.place.artifact(finished.upstream("evaluate"), "members.csv"))
    for number, name in enumerate(("top", "middle", "bottom")):
        val, test = (by_split[split][str(number)] for split in ("val", "test"))
        assert val.data.tags["sensai.upstream.retrain"] == finished.upstream("retrain")
        assert test.data.tags["sensai.upstream.evaluate"] == finished.upstream("evaluate")
        assert test.data.tags["sensai.member_run"] == val.info.run_id
        assert json.loads(val.data.tags["sensai.classes"]) == json.loads(test.data.tags["sensai.classes"]) == [name]
        assert val.data.tags["sensai.stopped_by"] == "epochs"
        assert "learning_curve.png" in finished.place.artifacts(val.info.run_id)
        assert val.data.metrics["epochs_run"] == 1
        for run in (val, test):
            measured = {"binary_accuracy", "balanced_accuracy", "roc_auc", "average_precision", "params", "flops"}
            assert measured <= set(run.data.metrics)
        assert test.data.metrics["flops"] == val.data.metrics["flops"] == sizes["flops"][number]
        assert test.data.metrics["latency_ms"] == pytest.approx(sizes["latency_ms"][number])


@pytest.mark.parametrize(("split", "source"), [("val", "cross-fitted"), ("test", "fitted")])
def test_members_are_judged_at_thresholds_of_validation_images(finished: FinishedMain, split: str, source: str) -> None:
    with finished.place.active():
        ensemble = retrain.load(Store.connect(), finished.upstream("retrain"))
    outputs = {
        name: evaluation.Outputs(
            getattr(dataset_of(finished.config), name).labels, [logits for _, logits in member_outputs(finished, name)]
        )
        for name in ("val", "test")
    }
    thresholds = {
        "val": evaluation.cross_fitted_thresholds(outputs["val"], ensemble),
        "test": evaluation.fitted_thresholds(outputs["val"], ensemble),
    }[split]
    expected = evaluation.member_metrics(outputs[split], ensemble, thresholds)
    members = {
        int(run.data.tags["sensai.member"]): run
        for run in finished.place.of("member")
        if run.data.tags["sensai.split"] == split
    }
    for number, metrics in enumerate(expected):
        logged = members[number].data
        assert {name: logged.metrics[name] for name in metrics} == pytest.approx(metrics)
        assert logged.tags["sensai.thresholds"] == source


def test_learning_curves_have_one_point_an_epoch(finished: FinishedMain) -> None:
    def curve(run_id: str, name: str) -> list[int]:
        return sorted(point.step for point in finished.place.client.get_metric_history(run_id, f"curve/{name}"))

    base = finished.upstream("baseline")
    for name in ("train_loss", "loss", "accuracy", "balanced_accuracy"):
        assert curve(base, name) == [0, 1, 2]
    assert finished.place.run(base).data.metrics["epochs_run"] == 3
    for run in finished.place.of("member"):
        expected = [0] if run.data.tags["sensai.split"] == "val" else []
        assert curve(run.info.run_id, "train_loss") == curve(run.info.run_id, "balanced_accuracy") == expected


def is_pickled(path: Path) -> bool:
    """Return True if loading a file would unpickle something."""
    content = path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(Path(name).suffix in PICKLED for name in archive.namelist())
    if content.startswith(b"\x93NUMPY"):
        return b"'|O'" in content[:200]
    if not content.startswith(b"\x80"):
        return False
    try:
        return sum(1 for _ in pickletools.genops(content)) > 0
    except ValueError:
        return False


def test_the_search_for_pickles_finds_them(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    torch.save({"a": torch.zeros(1)}, tmp_path / "old", _use_new_zipfile_serialization=False)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "numbers.npy", np.zeros(3))
    found = {path.name for path in tmp_path.iterdir() if is_pickled(path)}
    assert found == {"weights.safetensors", "old", "objects.npy"}


def test_nothing_that_was_stored_is_pickled(finished: FinishedMain) -> None:
    folder = finished.place.folder
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "mlflow.db"]
    kinds = {path.suffix for path in files}
    assert {".safetensors", ".onnx", ".npy", ".json", ".csv", ".png", ".html", ".py"} <= kinds
    assert not kinds & PICKLED
    assert [path for path in files if is_pickled(path)] == []
    for path in files:
        if path.name in ("requirements.txt", "conda.yaml"):
            assert "cloudpickle" not in path.read_text()


def test_a_finished_stage_leaves_no_checkpoints(finished: FinishedMain) -> None:
    assert list((finished.place.folder / "work").rglob("checkpoints/*")) == []


@pytest.fixture
def place(finished_main: FinishedMain, tmp_path: Path):
    """Return a copy of the store in which `main` has run, so that base model and statistics exist."""
    with finished_main.place.copy(tmp_path).active() as copied:
        yield copied


def run_again(place: Place, **parameters: object) -> FinishedMain:
    config = place.config("main", **parameters)
    return FinishedMain(place, config, main.run(config))


def member_outputs(finished: FinishedMain, name: str = "test") -> list[tuple[tuple[int, ...], np.ndarray]]:
    """Return classes and outputs of every retrained member on the images of a split."""
    ensemble = retrain.load(Store.connect(), finished.upstream("retrain"))
    split = getattr(dataset_of(finished.config), name)
    images = ensemble.normalization(torch.from_numpy(split.images[split.rows]))
    with torch.no_grad():
        logits = ensemble.member_logits(images)
    return [(member.classes, each.numpy()) for member, each in zip(ensemble.members, logits, strict=True)]


def test_run_again_it_answers_from_the_store(place: Place) -> None:
    before = place.runs()
    (first,) = (run for run in before.values() if stage_of(run) == "main")
    again = run_again(place)
    (new,) = place.new_runs(before)
    assert new.info.run_id == again.run_id
    assert new.data.metrics == first.data.metrics
    assert [again.upstream(stage) for stage in STAGES] == [
        first.data.tags[f"sensai.upstream.{stage}"] for stage in STAGES
    ]


def test_two_random_groups(place: Place) -> None:
    before = place.runs()
    finished = run_again(place, method="random", n_groups=2)
    assert {stage_of(run) for run in place.new_runs(before)} == {"main", *STAGES[2:], "member"}
    content = json.loads(place.artifact(finished.upstream("group"), "groups.json").read_text())
    assert sorted(label for each in content["groups"] for label in each) == [0, 1, 2]
    assert sorted(map(len, content["groups"])) == [1, 2]
    assert content["class_names"] == ["top", "middle", "bottom"]
    outputs = member_outputs(finished)
    assert [list(classes) for classes, _ in outputs] == content["groups"]
    for classes, logits in outputs:
        assert logits.shape == (30, {1: 1, 2: 3}[len(classes)])
    labels = {run.data.tags["sensai.classes"] for run in place.new_runs(before) if stage_of(run) == "member"}
    assert {len(json.loads(each)) for each in labels} == {1, 2}
    assert_groups_are_evaluated(finished, content["groups"])
    assert place.run(finished.run_id).data.metrics["version"] == 2


def assert_groups_are_evaluated(finished: FinishedMain, groups: list[list[int]]) -> None:
    run_id = finished.upstream("evaluate")

    def table(name: str) -> pd.DataFrame:
        return pd.read_csv(finished.place.artifact(run_id, name))

    assert finished.place.artifacts(run_id) >= {"confusion_groups.png", "confusion_in_groups.png"}
    answers, between, inside = table("answers.csv"), table("confusion_groups.csv"), table("confusion_in_groups.csv")
    owner = {label: number for number, group in enumerate(groups) for label in group}
    same = answers["label"].map(owner) == answers["ensemble"].map(owner)
    assert [name.count("+") + 1 for name in between.columns] == [len(group) for group in groups], (
        "groups have no numbers"
    )
    assert between.to_numpy().sum() == 30
    assert inside["images"].sum() == np.trace(between.to_numpy()) == same.sum()
    metrics = finished.place.run(run_id).data.metrics
    right = inside["images"][inside["label"] == inside["answer"]].sum()
    assert metrics["accuracy"] == pytest.approx(right / 30)
    assert {"in_group_accuracy", "none_accuracy"} <= set(metrics)
    # A member of one class is always right in its group.
    members = table("members.csv").set_index("member")
    (single,) = (number for number, group in enumerate(groups) if len(group) == 1)
    assert members["in_group_accuracy"][single] == 1
    assert members["none_accuracy"].between(0, 1).all()
    page = finished.place.artifact(finished.upstream("report"), "report.html").read_text()
    assert 'alt="Confusion in groups. ' in page


@pytest.mark.long
def test_the_control_is_one_network_of_all_classes(place: Place) -> None:
    finished = run_again(place, method="random", n_groups=1, combine="raw")
    ((classes, logits),) = member_outputs(finished)
    assert classes == (0, 1, 2)
    # K outputs, none of which says "none of mine".
    assert logits.shape == (30, 3)
    metrics = place.run(finished.run_id).data.metrics
    test = dataset_of(finished.config).test
    assert metrics["accuracy"] == pytest.approx((logits.argmax(1) == test.labels).mean())
    pruned = place.run(finished.upstream("prune")).data.metrics
    assert pruned["members"] == 1
    assert pruned["val_in_group_accuracy"] == pytest.approx(pruned["val_accuracy"])
    assert metrics["params_total"] == metrics["params_max"]
    # Nothing that it says is about groups.
    assert not [name for name in place.artifacts(finished.upstream("evaluate")) if "groups" in name]


@pytest.mark.long
def test_thresholds_members_as_they_were_cut_and_force(place: Place) -> None:
    before = place.runs()
    finished = run_again(
        place,
        **{"policy": "threshold", "apoz_threshold": 0.4, "mean_threshold": 10.0},
        **{"method": "random", "n_groups": 1, "epochs": 0, "force": True},
    )
    new = place.new_runs(before)
    # Force redoes every stage, each once, and each stands on the new ones.
    assert sorted(stage_of(run) for run in new) == sorted(["main", *STAGES, "member", "member"])
    for stage in STAGES[:6]:
        assert {run.data.tags.get(f"sensai.upstream.{stage}") for run in new} - {None} == {finished.upstream(stage)}

    pruned, retrained = (place.run(finished.upstream(stage)) for stage in ("prune", "retrain"))
    assert "apoz>0.4 mean<10" in pruned.info.run_name
    assert 0 < pruned.data.metrics["channels_kept"] < 1
    version = place.client.get_model_version("sensai-ensemble", "2")
    assert version.tags["pruning"] == "apoz>0.4 mean<10"
    assert "ratio" not in version.tags

    assert retrained.data.metrics["val_accuracy"] == pruned.data.metrics["val_accuracy"]
    assert retrained.data.metrics["epochs_saved"] == 0
    (val,) = (run for run in new if run.data.tags.get("sensai.split") == "val")
    assert val.data.metrics["epochs_run"] == 0
    assert val.data.tags["sensai.stopped_by"] == "epochs=0"
    assert not [name for name in val.data.metrics if name.startswith("curve/")]


def test_data_without_a_test_split_are_refused(place: Place) -> None:
    before = place.runs()
    dataset = f"{ROOT}/tests/helpers/tiny_data.py:without_test"
    with pytest.raises(InputError, match="has no test split"):
        run_again(place, dataset=dataset, base_epochs=0, epochs=0, method="random", n_groups=1)
    (parent,) = (run for run in place.new_runs(before) if stage_of(run) == "main")
    assert parent.info.status == "FAILED"
    assert "has no test split" in parent.data.tags["sensai.failure"]


def test_latencies_are_those_of_the_runtime_that_was_asked_for(finished: FinishedMain) -> None:
    evaluated = finished.upstream("evaluate")
    table = pd.read_csv(finished.place.artifact(evaluated, "runtimes.csv"))
    assert set(table["network"]) == {"base", "ensemble", "member"}
    assert set(table["runtime"]) == {"torch"}
    assert (table["error"] <= 1e-5).all()
    run = finished.place.run(evaluated)
    assert set(json.loads(run.data.tags["sensai.runtime"])) == {"base", "ensemble", "member"}
    metrics = run.data.metrics
    assert metrics["speedup_ensemble"] == pytest.approx(metrics["latency_base_ms"] / metrics["latency_ensemble_ms"])
    assert metrics["speedup_critical_path"] == pytest.approx(
        metrics["latency_base_ms"] / metrics["latency_member_max_ms"]
    )


@pytest.mark.long
def test_all_runtimes_and_integers_beside_the_exact_members(place: Place) -> None:
    evaluated = run_again(place, runtime="auto", int8=True, latency_batch_size=2).upstream("evaluate")
    table = pd.read_csv(place.artifact(evaluated, "runtimes.csv"))
    assert set(table["runtime"]) == set(candidates("cpu"))
    assert table["median_ms"].notna().all()
    run = place.run(evaluated)
    chosen = json.loads(run.data.tags["sensai.runtime"])
    for network, rows in table.groupby("network"):
        best = rows.loc[rows["median_ms"].idxmin()]
        assert chosen[network] == f"{best['runtime']} x{best['threads']}"
    metrics = run.data.metrics
    assert metrics["speedup_int8"] > 0
    for name in ("", "val_"):
        # Rounding turns few of so many answers.
        assert metrics[f"{name}accuracy_int8"] == pytest.approx(metrics[f"{name}accuracy_logistic"], abs=0.15)
