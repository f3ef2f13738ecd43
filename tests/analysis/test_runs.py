"""Run tables: fixed columns and types for no run, one and many; typed values; no artifact read for a row."""

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import mlflow
import pandas as pd
import pytest

from sensai.analysis import curves, differences, runs
from tests.analysis.conftest import Logbook
from tests.helpers.pipeline import FinishedMain

TIME = "datetime64[ms, UTC]"
STAGE_COLUMNS = {
    **dict.fromkeys(["run_id", "name", "role", "stage", "status"], "str"),
    "start": TIME,
    "seconds": "float64",
    **dict.fromkeys(["parent", "fingerprint", "reused"], "str"),
}
MEMBER_COLUMNS = {
    **dict.fromkeys(["run_id", "stage_run", "split"], "str"),
    "member": "int64",
    "classes": "str",
    "role": "str",
    **dict.fromkeys(
        [
            *("binary_accuracy", "balanced_accuracy", "roc_auc", "average_precision"),
            *("params", "flops", "epochs_run", "seconds"),
        ],
        "float64",
    ),
    "stopped_by": "str",
}
LINEAGE_COLUMNS = {
    **dict.fromkeys(["stage", "run_id", "name", "role", "status", "fingerprint", "data_digest"], "str"),
    "start": TIME,
}
LAYER_COLUMNS = {
    "member": "int64",
    "classes": "str",
    "role": "str",
    "depth": "int64",
    "site": "str",
    "channels": "int64",
    "kept": "int64",
}
STUDY_COLUMNS = {
    **dict.fromkeys(["run_id", "name", "experiment", "study", "dataset", "arch", "objective", "mode"], "str"),
    "trials": "Int64",
    **dict.fromkeys(["hypervolume", "base_val_accuracy"], "float64"),
    **dict.fromkeys(["best_calibrated_val_accuracy", "best_val_accuracy", "best_flops_speedup"], "float64"),
    "start": TIME,
    "seconds": "float64",
}
OVERVIEW_COLUMNS = {
    **dict.fromkeys(["run_id", "stage", "name", "role"], "str"),
    "start": TIME,
    "seconds": "float64",
    **dict.fromkeys(["parent", "dataset", "arch", "data_digest", "study", "trial", "cell", "retrain_run"], "str"),
    **dict.fromkeys(["precision", "device", "commit", "config"], "str"),
}
ABOUT = ["name", "stage", "role", "status", "start", "seconds"]
STAGES = ["baseline", "activations", "group", "prune", "retrain", "evaluate", "register", "report"]


def types(frame: pd.DataFrame, columns: dict[str, str]) -> dict[str, str]:
    return {name: str(frame.dtypes[name]) for name in list(frame.columns)[: len(columns)]}


def prune_run(logbook: Logbook, number: int = 0, **more: str) -> str:
    """Log a run of prune whose ratio and accuracy follow from its number."""
    config = {"ratio": number / 10, "epochs": number, "force": False, "policy": "ratio"}
    tags = {"stage": "prune", "fingerprint": f"print {number}", "config": json.dumps(config)}
    return logbook.run({**tags, **more}, {"val_accuracy": 1 - number / 100}, name=f"prune {number}")


def member_run(logbook: Logbook, stage: str, stage_run: str, number: int, *classes: str) -> str:
    tags = {"stage": "member", "member": str(number), "classes": json.dumps(classes), f"upstream.{stage}": stage_run}
    tags["split"] = {"retrain": "val", "evaluate": "test"}[stage]
    more = {"epochs_run": 7.0} if stage == "retrain" else {}
    return logbook.run(tags, {"binary_accuracy": 0.9, "flops": 1000.0 + number, **more})


class TestStageRuns:
    """`stage_runs`."""

    @pytest.mark.parametrize("count", [0, 1, 5])
    def test_columns_and_types_are_the_same_for_any_number(self, logbook: Logbook, count: int) -> None:
        ids = [prune_run(logbook, number) for number in range(count)]
        frame = runs.stage_runs("prune", wide=True)
        assert types(frame, STAGE_COLUMNS) == STAGE_COLUMNS
        assert list(frame["run_id"]) == ids[::-1]
        assert list(frame.index) == list(range(count))

    def test_values_have_the_types_of_the_configuration(self, logbook: Logbook) -> None:
        ids = [prune_run(logbook, number, **{"mlflow.parentRunId": "the parent"}) for number in (1, 2)]
        frame = runs.stage_runs("prune", wide=True).set_index("run_id")
        assert {name: str(frame.dtypes[f"config.{name}"]) for name in ("ratio", "epochs", "force", "policy")} == {
            "ratio": "float64",
            "epochs": "int64",
            "force": "bool",
            "policy": "str",
        }
        assert frame["config.ratio"].to_dict() == {ids[0]: 0.1, ids[1]: 0.2}
        assert frame["metrics.val_accuracy"].to_dict() == {ids[0]: 0.99, ids[1]: 0.98}
        row = frame.loc[ids[0]]
        assert (row["name"], row["stage"], row["status"]) == ("prune 1", "prune", "FINISHED")
        assert (row["parent"], row["fingerprint"], row["reused"]) == ("the parent", "print 1", "")
        assert row["seconds"] == 0.5
        assert row["start"] == pd.Timestamp(1_700_000_001, unit="s", tz="UTC")

    def test_runs_that_have_not_finished_are_asked_for(self, logbook: Logbook) -> None:
        done = prune_run(logbook)
        running = logbook.run({"stage": "prune"}, status="RUNNING")
        failed = logbook.run({"stage": "prune"}, status="FAILED")
        assert list(runs.stage_runs("prune", wide=True)["run_id"]) == [done]
        frame = runs.stage_runs("prune", wide=True, finished_only=False).set_index("run_id")
        assert frame["status"].to_dict() == {done: "FINISHED", running: "RUNNING", failed: "FAILED"}
        assert frame["seconds"].isna().to_dict() == {done: False, running: True, failed: False}
        assert types(frame.reset_index(), STAGE_COLUMNS) == STAGE_COLUMNS

    def test_all_experiments_are_read_and_other_stages_are_not(self, logbook: Logbook) -> None:
        elsewhere = logbook.client.create_experiment("elsewhere")
        first = prune_run(logbook, 1)
        second = logbook.run({"stage": "prune"}, experiment=elsewhere)
        logbook.run({"stage": "retrain"})
        logbook.run({})
        assert list(runs.stage_runs("prune", wide=True)["run_id"]) == [second, first]
        assert runs.stage_runs("tune").empty

    def test_a_run_that_was_answered_from_the_store_is_listed_when_asked_for(self, logbook: Logbook) -> None:
        answer = prune_run(logbook, 3)
        asked = logbook.run({"reused": answer}, name="asked again")
        logbook.run({"reused": answer}, status="FAILED")
        logbook.run({"reused": logbook.run({"stage": "retrain"})})
        assert list(runs.stage_runs("prune", wide=True)["run_id"]) == [answer]
        frame = runs.stage_runs("prune", wide=True, include_reused=True)
        assert list(frame["run_id"]) == [asked, answer]
        assert list(frame["reused"]) == [answer, ""]
        assert list(frame["name"]) == ["asked again", "prune 3"]
        for column in ("stage", "fingerprint", "config.ratio", "metrics.val_accuracy"):
            assert len(set(frame[column])) == 1, column
        assert types(frame, STAGE_COLUMNS) == STAGE_COLUMNS

    @pytest.mark.parametrize("page", [1, 2, 5, 6])
    def test_every_page_is_read(self, logbook: Logbook, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
        ids = [prune_run(logbook, number) for number in range(5)]
        monkeypatch.setattr("sensai.analysis.runs.queries.PAGE", page)
        assert list(runs.stage_runs("prune", wide=True)["run_id"]) == ids[::-1]

    @pytest.mark.parametrize("count", [0, 1, 5])
    def test_by_default_there_are_the_columns_that_matter(self, logbook: Logbook, count: int) -> None:
        for number in range(count):
            prune_run(logbook, number)
        frame = runs.stage_runs("prune")
        asked = [f"config.{name}" for name in ("dataset", "arch", "method", "n_groups", "ratio", "epochs", "seed")]
        found = ("val_accuracy", "members", "channels_kept", "flops_base", "flops_max", "flops_total")
        metrics = [f"metrics.{name}" for name in found]
        assert list(frame.columns) == ["run_id", "name", "role", "start", "seconds", *asked, *metrics]
        assert set(frame[metrics].dtypes.astype("str")) == {"float64"}
        assert frame.equals(runs.stage_runs("prune", wide=True).reindex(columns=frame.columns).astype(frame.dtypes))
        states = runs.stage_runs("prune", include_reused=True, finished_only=False).columns
        assert set(states) - set(frame.columns) == {"status", "reused"}

    def test_a_stage_that_there_is_none_of_is_an_error_with_near_names(self, logbook: Logbook) -> None:
        with pytest.raises(ValueError, match=r"^stage='pruned': did you mean prune or predict or tune\?$"):
            runs.stage_runs("pruned")


def cut_run(logbook: Logbook, method: str, members: int, flops_max: float, stage: str = "prune", **more: str) -> str:
    """Log a run of networks of some size, cut from one of 100 FLOPs."""
    metrics = {"members": members, "flops_max": flops_max, "flops_base": 100.0, "val_accuracy": 0.5}
    config = json.dumps({"method": method, "ratio": 0.5})
    return logbook.run({"stage": stage, "config": config, **more}, metrics)


class TestRoles:
    """The column `role`."""

    def test_it_follows_from_method_and_sizes(self, logbook: Logbook) -> None:
        made = {
            cut_run(logbook, "singletons", 10, 20.0): "ensemble",
            cut_run(logbook, "random", 1, 20.0): "control",
            cut_run(logbook, "random", 1, 100.0): "base",
            cut_run(logbook, "replicas", 5, 20.0): "replicas",
        }
        assert runs.stage_runs("prune").set_index("run_id")["role"].to_dict() == made
        later = {logbook.run({"stage": "retrain", "upstream.prune": each}): role for each, role in made.items()}
        assert runs.stage_runs("retrain").set_index("run_id")["role"].to_dict() == later
        assert runs.overview().set_index("run_id")["role"].to_dict() == made | later
        for each, role in later.items():
            assert runs.compare([each]).loc["role", each] == role
            assert runs.lineage(each)["role"].tolist() == [role, role]

    def test_of_many_runs_it_is_the_same(self, logbook: Logbook) -> None:
        control, ensemble = cut_run(logbook, "random", 1, 20.0), cut_run(logbook, "random", 3, 20.0)
        pruned = [control, ensemble, *(cut_run(logbook, "random", 3, 20.0) for _ in range(25))]
        for each in pruned:
            logbook.run({"stage": "retrain", "upstream.prune": each})
        frame = runs.stage_runs("retrain", wide=True)
        assert set(frame[frame["role"] == "control"]["upstream.prune"]) == {control}
        assert set(frame["role"]) == {"control", "ensemble"}

    def test_that_of_an_evaluation_is_as_it_was_logged(self, logbook: Logbook) -> None:
        logbook.run({"stage": "evaluate", "role": "replicas"})
        assert runs.stage_runs("evaluate")["role"].tolist() == ["replicas"]

    def test_runs_without_members_have_none(self, logbook: Logbook) -> None:
        logbook.run({"stage": "baseline"})
        logbook.run({"stage": "retrain", "upstream.prune": "f" * 32})
        assert runs.overview()["role"].isna().all()

    def test_the_control_is_not_mistaken_for_the_ensemble(self, logbook: Logbook) -> None:
        """The query of the README."""
        logbook.client.log_metric(cut_run(logbook, "random", 1, 20.0), "val_accuracy", 0.678, step=1)
        logbook.client.log_metric(cut_run(logbook, "singletons", 10, 20.0), "val_accuracy", 0.428, step=1)
        pruned = runs.stage_runs("prune", fresh=True)
        ensembles = pruned[pruned["role"] == "ensemble"]
        assert ensembles.groupby("config.ratio")["metrics.val_accuracy"].max().to_dict() == {0.5: 0.428}


class TestIds:
    """Runs by whole and by shortened ids."""

    def test_a_beginning_that_is_unique_will_do(self, finished: FinishedMain) -> None:
        evaluated, pruned = finished.upstream("evaluate"), finished.upstream("prune")
        assert runs.members([evaluated[:12]]).equals(runs.members([evaluated]))
        assert runs.layers(pruned[:12]).equals(runs.layers(pruned))
        assert runs.sizes(pruned[:12]).equals(runs.sizes(pruned))
        assert runs.lineage(pruned[:12])["run_id"].iloc[-1] == pruned
        assert list(runs.compare([pruned[:12], evaluated]).columns) == [pruned, evaluated]
        assert runs.table(evaluated[:12], "confusion.csv").equals(runs.table(evaluated, "confusion.csv"))
        assert differences.base_difference(evaluated[:12]) == differences.base_difference(evaluated)
        retrained = finished.upstream("retrain")
        assert curves.curves([retrained[:12]]).equals(curves.curves([retrained]))

    def test_one_that_is_not_unique_is_an_error_that_names_the_runs(self, logbook: Logbook) -> None:
        ids = [prune_run(logbook) for _ in range(17)]
        shared = next(each[0] for each in ids if sum(other[0] == each[0] for other in ids) > 1)
        with pytest.raises(ValueError, match=f"'{shared}' is the beginning of [0-9]+ ids: {shared}") as error:
            runs.lineage(shared)
        assert any(each in str(error.value) for each in ids)

    @pytest.mark.parametrize("read", [runs.lineage, runs.layers, runs.sizes, lambda each: runs.members([each])])
    def test_one_that_names_no_run_is_an_error_with_near_ones(
        self, logbook: Logbook, read: Callable[[str], object]
    ) -> None:
        run_id = prune_run(logbook)
        wrong = run_id[:-1] + ("0" if run_id[-1] != "0" else "1")
        with pytest.raises(ValueError, match=f"'{wrong}' names none, did you mean {run_id}"):
            read(wrong)

    def test_the_name_of_a_run_leads_to_its_id(self, logbook: Logbook) -> None:
        run_id = prune_run(logbook, 3)
        with pytest.raises(ValueError, match=f"'prune 3' names none, did you mean {run_id}"):
            runs.lineage("prune 3")

    def test_members_of_a_stage_without_members_are_an_error(self, logbook: Logbook) -> None:
        run_id = prune_run(logbook)
        with pytest.raises(ValueError, match=f"runs of retrain or evaluate, but {run_id} is one of prune"):
            runs.members([run_id])

    def test_members_of_a_reused_run_are_those_of_the_one_that_answered(self, logbook: Logbook) -> None:
        answer = logbook.run({"stage": "retrain"})
        member = member_run(logbook, "retrain", answer, 0, "cat")
        assert list(runs.members([logbook.run({"reused": answer})])["run_id"]) == [member]


def test_no_bar_is_shown_where_a_table_is_read(
    logbook: Logbook, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", raising=False)
    run_id = prune_run(logbook)
    logbook.client.log_text(run_id, "a\n1\n", "a.csv")
    capfd.readouterr()
    assert runs.table(run_id, "a.csv")["a"].tolist() == [1]
    assert capfd.readouterr().err == ""


class TestMembers:
    """`members`."""

    @pytest.mark.parametrize("count", [0, 1, 4])
    def test_columns_and_types_are_the_same_for_any_number(self, logbook: Logbook, count: int) -> None:
        ids = [member_run(logbook, "retrain", "a retraining", number, "cat") for number in reversed(range(count))]
        frame = runs.members(wide=True)
        assert types(frame, MEMBER_COLUMNS) == MEMBER_COLUMNS
        assert list(frame.columns) == list(MEMBER_COLUMNS)
        assert list(frame["run_id"]) == ids[::-1]
        assert list(frame["member"]) == list(range(count))

    def test_values(self, logbook: Logbook) -> None:
        member_run(logbook, "retrain", "r", 0, "cat", "dog")
        member_run(logbook, "evaluate", "e", 0, "cat", "dog")
        logbook.run({"stage": "member", "upstream.retrain": "r"}, status="FAILED")
        test, val = (row for _, row in runs.members(wide=True).iterrows())
        assert (test["stage_run"], test["split"], test["classes"]) == ("e", "test", "cat+dog")
        assert (val["stage_run"], val["split"], val["classes"]) == ("r", "val", "cat+dog")
        assert (val["epochs_run"], val["flops"], val["binary_accuracy"]) == (7.0, 1000.0, 0.9)
        assert pd.isna(test["epochs_run"])
        assert pd.isna(test["roc_auc"])

    def test_those_of_some_runs(self, logbook: Logbook) -> None:
        one, _, three = made = [logbook.run({"stage": stage}) for stage in ("retrain", "retrain", "evaluate")]
        for stage, stage_run in zip(("retrain", "retrain", "evaluate"), made, strict=True):
            for number in range(2):
                member_run(logbook, stage, stage_run, number, "cat")
        assert set(runs.members([one, three])["stage_run"]) == {one, three}
        assert len(runs.members([one, three])) == 4
        assert types(runs.members([], wide=True), MEMBER_COLUMNS) == MEMBER_COLUMNS
        assert runs.members([]).empty

    def test_by_default_there_are_the_columns_that_matter(self, logbook: Logbook) -> None:
        member_run(logbook, "retrain", "r", 0, "cat")
        assert list(runs.members().columns) == [
            *("run_id", "stage_run", "split", "member", "classes", "role"),
            *("binary_accuracy", "balanced_accuracy", "roc_auc", "params", "flops"),
        ]

    def test_every_page_is_read(self, logbook: Logbook, monkeypatch: pytest.MonkeyPatch) -> None:
        for number in range(5):
            member_run(logbook, "retrain", "r", number, "cat")
        monkeypatch.setattr("sensai.analysis.runs.queries.PAGE", 2)
        assert list(runs.members(wide=True)["member"]) == [0, 1, 2, 3, 4]


@pytest.fixture
def without_artifacts(finished: FinishedMain) -> Iterator[FinishedMain]:
    """Return the store with its artifacts out of reach."""
    folder = finished.place.folder / "artifacts"
    away = folder.rename(folder.with_name("away"))
    yield finished
    away.rename(folder)


class TestOfMain:
    """Over everything that `main` logs."""

    def test_no_artifact_is_read(self, without_artifacts: FinishedMain) -> None:
        for stage in ("main", *STAGES):
            assert len(runs.stage_runs(stage, include_reused=True)) == 1, stage
        assert len(runs.members()) == 6
        assert len(runs.lineage(without_artifacts.run_id)) == 9

    def test_every_parameter_and_metric_of_a_stage_is_a_column(self, finished: FinishedMain) -> None:
        (row,) = (row for _, row in runs.stage_runs("evaluate", wide=True).iterrows())
        run = finished.place.run(finished.upstream("evaluate"))
        metrics = {name.removeprefix("metrics."): value for name, value in row.items() if name.startswith("metrics.")}
        assert metrics == run.data.metrics
        config = {name.removeprefix("config."): value for name, value in row.items() if name.startswith("config.")}
        assert config == json.loads(run.data.tags["sensai.config"])
        upstream = {
            name.removeprefix("upstream."): value for name, value in row.items() if name.startswith("upstream.")
        }
        assert upstream == {stage: finished.upstream(stage) for stage in STAGES[:5]}
        assert runs.stage_runs("main", wide=True)["config.model_name"].tolist() == ["sensai-ensemble"]

    def test_overview_has_every_run_but_those_of_members(self, finished: FinishedMain) -> None:
        assert list(runs.overview().columns) == [
            *("run_id", "stage", "name", "role", "start", "seconds", "dataset", "arch", "study"),
        ]
        frame = runs.overview(wide=True)
        assert types(frame, OVERVIEW_COLUMNS) == OVERVIEW_COLUMNS
        assert list(frame.columns) == list(OVERVIEW_COLUMNS)
        others = {
            run_id: run for run_id, run in finished.place.runs().items() if run.data.tags["sensai.stage"] != "member"
        }
        assert set(frame["run_id"]) == set(others)
        assert set(frame["stage"]) == {*STAGES, "main"}
        retrained = frame.set_index("run_id").loc[finished.upstream("retrain")]
        tags = others[finished.upstream("retrain")].data.tags
        for name in ("device", "commit", "config", "data_digest"):
            assert retrained[name] == tags[f"sensai.{name}"], name
        evaluated = frame.set_index("run_id").loc[finished.upstream("evaluate")]
        assert evaluated["retrain_run"] == finished.upstream("retrain")

    def test_members_of_one_run(self, finished: FinishedMain) -> None:
        frame = runs.members([finished.upstream("retrain")], wide=True)
        assert set(frame["role"]) == {"ensemble"}
        assert list(frame["classes"]) == ["top", "middle", "bottom"]
        assert set(frame["split"]) == {"val"}
        assert set(frame["stopped_by"]) == {"epochs"}
        assert frame.notna().all(axis=None)

    @pytest.mark.parametrize("stage", ["prune", "retrain", "evaluate", "report", "main"])
    def test_layers_are_those_of_the_pruning_it_stands_on(self, finished: FinishedMain, stage: str) -> None:
        run_id = finished.run_id if stage == "main" else finished.upstream(stage)
        frame = runs.layers(run_id)
        assert types(frame, LAYER_COLUMNS) == LAYER_COLUMNS
        assert list(frame.columns) == list(LAYER_COLUMNS)
        assert list(frame["classes"].unique()) == ["top", "middle", "bottom"]
        assert list(frame["depth"]) == [0, 1, 2, 3] * 3
        assert list(frame["channels"]) == [32, 32, 64, 64] * 3
        assert frame["kept"].between(1, frame["channels"]).all()
        assert frame.groupby("member")["kept"].sum().tolist() == [96] * 3
        plans = json.loads(finished.place.artifact(finished.upstream("prune"), "plans.json").read_text())
        for (member, site), rows in frame.groupby(["member", "site"]):
            removed = plans["members"][member]["removed"].get(site, [])
            assert rows["kept"].item() == rows["channels"].item() - len(removed)

    @pytest.mark.parametrize("stage", ["prune", "evaluate"])
    def test_sizes_are_those_of_the_pruning_it_stands_on(self, finished: FinishedMain, stage: str) -> None:
        frame = runs.sizes(finished.upstream(stage))
        assert list(frame.columns) == ["member", "classes", "role", "channels_kept", "params", "flops", "bytes"]
        assert list(frame["classes"]) == ["top", "middle", "bottom"]
        assert frame["channels_kept"].tolist() == [96] * 3
        metrics = finished.place.run(finished.upstream("prune")).data.metrics
        assert (frame["params"].max(), frame["flops"].sum()) == (metrics["params_max"], metrics["flops_total"])
        assert (frame["bytes"] == 4 * frame["params"]).all()

    def test_a_table_by_name(self, finished: FinishedMain) -> None:
        frame = runs.table(finished.upstream("evaluate"), "confusion.csv")
        assert list(frame.columns) == ["top", "middle", "bottom"]
        assert frame.to_numpy().sum() == 30

    @pytest.mark.parametrize("stage", ["baseline", "group", "evaluate", "register", "report"])
    def test_lineage_goes_as_the_data_flowed(self, finished: FinishedMain, stage: str) -> None:
        frame = runs.lineage(finished.upstream(stage))
        before = STAGES[: min(STAGES.index(stage), 6)]
        assert list(frame["stage"]) == [*before, stage]
        assert list(frame["run_id"]) == [finished.upstream(each) for each in (*before, stage)]
        assert list(frame.columns) == list(LINEAGE_COLUMNS)
        assert types(frame, LINEAGE_COLUMNS) == LINEAGE_COLUMNS
        assert set(frame["status"]) == {"FINISHED"}
        assert len(set(frame["data_digest"])) == 1
        assert frame["fingerprint"].is_unique

    def test_lineage_of_main(self, finished: FinishedMain) -> None:
        frame = runs.lineage(finished.run_id)
        assert list(frame["stage"])[:6] == STAGES[:6]
        assert set(frame["stage"][6:8]) == {"register", "report"}
        assert frame["run_id"].iloc[-1] == finished.run_id

    @pytest.mark.parametrize("split", ["val", "test"])
    def test_lineage_of_a_member_ends_with_it(self, finished: FinishedMain, split: str) -> None:
        members = runs.members()
        run_id = members[members["split"] == split]["run_id"].iloc[0]
        frame = runs.lineage(run_id)
        assert frame["run_id"].iloc[-1] == run_id
        assert frame["stage"].iloc[-2] == {"val": "retrain", "test": "evaluate"}[split]


class TestReused:
    """A run that was answered from the store stands for the one that answered."""

    def test_lineage(self, logbook: Logbook) -> None:
        base = logbook.run({"stage": "baseline", "fingerprint": "f", "data_digest": "d"}, name="base")
        answer = logbook.run({"stage": "activations", "upstream.baseline": base})
        asked = logbook.run({"reused": answer})
        frame = runs.lineage(asked)
        assert list(frame["run_id"]) == [base, answer]
        assert frame.loc[0, ["stage", "name", "fingerprint", "data_digest"]].tolist() == ["baseline", "base", "f", "d"]

    # What looks like a number or like nothing at all is a class's name all the same.
    @pytest.mark.parametrize("name", ["cat", "1", "007", "NA", "1e3"])
    def test_layers(self, logbook: Logbook, name: str) -> None:
        answer = cut_run(logbook, "random", 3, 20.0)
        logbook.client.log_text(answer, f"member,classes,depth,site,channels,kept\n0,{name},0,conv,8,5\n", "layers.csv")
        frame = runs.layers(logbook.run({"reused": answer}))
        assert types(frame, LAYER_COLUMNS) == LAYER_COLUMNS
        assert frame.iloc[0].tolist() == [0, name, "ensemble", 0, "conv", 8, 5]

    def test_layers_of_a_run_that_stands_on_no_pruning(self, logbook: Logbook) -> None:
        with pytest.raises((ValueError, mlflow.MlflowException), match=r"prune|layers\.csv"):
            runs.layers(logbook.run({"stage": "baseline"}))


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_looked_for_afterwards_as_before(logbook: Logbook, enabled: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        runs.members()
        with pytest.raises(ValueError, match="names none"):
            runs.members(["no run"])
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_the_store_is_the_one_that_mlflow_is_set_to(logbook: Logbook, empty_database: Path, tmp_path: Path) -> None:
    prune_run(logbook)
    assert len(runs.stage_runs("prune")) == 1
    (tmp_path / "other.db").write_bytes(empty_database.read_bytes())
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/other.db")
    assert runs.stage_runs("prune").empty


def study_run(logbook: Logbook, found: dict[str, float], **more: str) -> str:
    """Log a run of tune with its results; one of its parameters has the name of one of its metrics."""
    config = json.dumps({"objective": "flops_max", "mode": "front", "trials": 40})
    tags = {"stage": "tune", "study": "mine", "dataset": "digits", "arch": "small_cnn", "config": config}
    return logbook.run(tags, {"trials": 7.0, "base_val_accuracy": 0.9, **found}, name="tune digits", **more)


class TestStudies:
    """`studies`."""

    FOUND: ClassVar = {
        "hypervolume": 0.6,
        "best_calibrated_val_accuracy": 0.89,
        "best_val_accuracy": 0.88,
        "best_flops_speedup": 3.5,
    }

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_columns_and_types_are_the_same_for_any_number(self, logbook: Logbook, count: int) -> None:
        ids = [study_run(logbook, self.FOUND) for _ in range(count)]
        frame = runs.studies()
        assert types(frame, STUDY_COLUMNS) == STUDY_COLUMNS
        assert list(frame.columns) == list(STUDY_COLUMNS)
        assert list(frame["run_id"]) == ids[::-1]

    def test_values(self, logbook: Logbook) -> None:
        elsewhere = logbook.client.create_experiment("elsewhere")
        run_id = study_run(logbook, self.FOUND, experiment=elsewhere)
        logbook.run({"stage": "trial", "study": "mine"})
        study_run(logbook, {}, status="FAILED")
        (row,) = runs.studies().to_dict("records")
        assert row == {
            "run_id": run_id,
            "name": "tune digits",
            "experiment": "elsewhere",
            "study": "mine",
            "dataset": "digits",
            "arch": "small_cnn",
            "objective": "flops_max",
            "mode": "front",
            "trials": 7,
            "base_val_accuracy": 0.9,
            **self.FOUND,
            "start": pd.Timestamp(1_700_000_001, unit="s", tz="UTC"),
            "seconds": 0.5,
        }

    def test_without_a_finished_trial_nothing_is_best(self, logbook: Logbook) -> None:
        study_run(logbook, {"trials": 0.0})
        frame = runs.studies()
        assert types(frame, STUDY_COLUMNS) == STUDY_COLUMNS
        assert frame["trials"].tolist() == [0]
        assert frame[list(self.FOUND)].isna().all(axis=None)


class TestCompare:
    """`compare`."""

    def test_differing_parameters_and_all_metrics_side_by_side(self, logbook: Logbook) -> None:
        first, second = prune_run(logbook, 1), prune_run(logbook, 2)
        frame = runs.compare([second, first])
        assert list(frame.columns) == [second, first]
        assert frame.index.name == "field"
        assert list(frame.index) == [*ABOUT, "config.ratio", "config.epochs", "metrics.val_accuracy"]
        assert frame.loc["name"].tolist() == ["prune 2", "prune 1"]
        assert frame.loc["config.ratio"].tolist() == [0.2, 0.1]
        assert [type(value) for value in frame.loc["config.epochs"]] == [int, int]
        assert frame.loc["metrics.val_accuracy"].tolist() == [0.98, 0.99]
        assert frame.loc["start", first] == pd.Timestamp(1_700_000_001, unit="s", tz="UTC")
        assert frame.loc["seconds"].tolist() == [0.5, 0.5]

    def test_what_a_run_does_not_have(self, logbook: Logbook) -> None:
        first = logbook.run({"stage": "prune", "config": json.dumps({"a": None, "same": 1})}, {"x": 1.0})
        second = logbook.run({"stage": "retrain", "config": json.dumps({"b": True, "same": 1.0})}, {"y": 2.0})
        frame = runs.compare([first, second])
        assert list(frame.index) == [*ABOUT, "config.a", "config.b", "metrics.x", "metrics.y"]
        assert frame.loc["config.a", first] is None
        assert frame.loc["config.a", second] is pd.NA
        assert frame.loc["config.b", second] is True
        assert frame.loc["metrics.y"].tolist() == [pd.NA, 2.0]
        assert frame.loc["stage"].tolist() == ["prune", "retrain"]

    def test_one_that_still_runs_has_no_seconds_yet(self, logbook: Logbook) -> None:
        running = logbook.run({"stage": "prune"}, status="RUNNING")
        frame = runs.compare([running])
        assert frame.loc["status", running] == "RUNNING"
        assert frame.loc["seconds"].isna().all()

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_of_any_number(self, logbook: Logbook, count: int) -> None:
        ids = [prune_run(logbook, 1) for _ in range(count)]
        frame = runs.compare(ids)
        assert list(frame.columns) == ids
        assert list(frame.index) == [*ABOUT, *(["metrics.val_accuracy"] if count else [])]
        assert set(frame.dtypes.astype("str")) <= {"object"}

    def test_one_and_true_differ(self, logbook: Logbook) -> None:
        ids = [logbook.run({"stage": "prune", "config": json.dumps({"a": value})}) for value in (1, True)]
        assert "config.a" in runs.compare(ids).index

    def test_a_reused_run_stands_with_what_the_one_that_answered_found(self, logbook: Logbook) -> None:
        answer = prune_run(logbook, 1)
        asked, other = logbook.run({"reused": answer}, name="asked"), prune_run(logbook, 2)
        frame = runs.compare([asked, other])
        assert frame.loc[["name", "stage", "config.ratio"], asked].tolist() == ["asked", "prune", 0.1]

    def test_runs_that_there_are_none_of_are_named_together(self, logbook: Logbook) -> None:
        with pytest.raises(
            ValueError, match=r"^run_ids must name .*: '0123abcd' names none.*; \"no run's id\" names none"
        ):
            runs.compare(["0123abcd", prune_run(logbook), "no run's id"])

    def test_over_what_main_logs(self, finished: FinishedMain) -> None:
        retrained, evaluated = finished.upstream("retrain"), finished.upstream("evaluate")
        frame = runs.compare([retrained, evaluated])
        for run_id in (retrained, evaluated):
            metrics = frame[run_id].dropna().filter(like="metrics.").rename(lambda name: name.removeprefix("metrics."))
            assert metrics.to_dict() == finished.place.run(run_id).data.metrics
        assert pd.isna(frame.loc["config.runtime", retrained])
        assert "config.ratio" not in frame.index
