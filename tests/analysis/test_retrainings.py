"""Every retraining in one row."""

import json
from collections.abc import Mapping

import pandas as pd
import pytest

from sensai.analysis.retrainings import retrainings
from sensai.analysis.runs.run_roles import role_of
from sensai.tracking.code_version import code_commit
from tests.analysis.conftest import Logbook
from tests.helpers.pipeline import FinishedMain

TEXT = (
    "arch",
    "dataset",
    "method",
    "policy",
    "target_of",
    "ranking",
    "scope",
    "criterion",
    "loss",
    "balance",
    "budget",
)
PLACED = ("role", "precision", "device", "commit", "study", "cell", "combination")
COUNTS = (
    *(
        "n_groups",
        "cut_steps",
        "cut_epochs",
        "epochs",
        "batch_size",
        "patience",
        "seed",
        "epochs_saved",
        "train_images",
    ),
    *("members", "params_max", "params_total", "flops_base", "flops_max", "flops_total"),
)
NUMBERS = (
    *("ratio", "target_flops", "kd_weight", "lr", "min_gain", "target"),
    *("val_accuracy", "seconds", "accuracy", "base_accuracy"),
)
TYPES = {
    "run_id": "str",
    "start": "datetime64[ms, UTC]",
    "evaluate_run": "str",
    **dict.fromkeys((*TEXT, *PLACED), "str"),
    **dict.fromkeys(COUNTS, "Int64"),
    **dict.fromkeys(NUMBERS, "float64"),
}


def types(frame: pd.DataFrame) -> dict[str, str]:
    return {name: str(kind) for name, kind in frame.dtypes.items()}


def retraining(logbook: Logbook, number: int, tags: Mapping[str, str] | None = None, **config: object) -> str:
    """Log a retrain run and its pruning, with values that follow from a number."""
    pruned = logbook.run({"stage": "prune"}, {"members": 10.0, "flops_max": 1000.0 + number})
    given = {"arch": "small_cnn", "epochs": number, "n_groups": None, "target": None, "target_flops": 0.5, **config}
    return logbook.run(
        {"stage": "retrain", "upstream.prune": pruned, "config": json.dumps(given), **(tags or {})},
        {"val_accuracy": number / 10, "seconds": 2.5, "epochs_saved": 3.0, "train_images": 5000.0},
    )


def evaluated(logbook: Logbook, retrain_run: str, accuracy: float, **metrics: float) -> str:
    tags = {"stage": "evaluate", "upstream.retrain": retrain_run}
    return logbook.run(tags, {"accuracy": accuracy, "base_accuracy": 0.75, **metrics})


class TestRetrainings:
    """`retrainings`."""

    @pytest.mark.parametrize("count", [0, 1, 3])
    @pytest.mark.parametrize("is_evaluated", [False, True])
    def test_columns_and_types_are_the_same_for_any_number(
        self, logbook: Logbook, count: int, is_evaluated: bool
    ) -> None:
        ids = [retraining(logbook, number) for number in range(count)]
        if is_evaluated:
            for run_id in ids:
                evaluated(logbook, run_id, 0.5)
        frame = retrainings()
        assert types(frame) == TYPES
        assert list(frame["run_id"]) == ids[::-1]
        assert list(frame.index) == list(range(count))

    def test_each_stands_on_its_pruning_and_has_its_latest_evaluation(self, logbook: Logbook) -> None:
        first, second = retraining(logbook, 1), retraining(logbook, 2, n_groups=4, target=0.9)
        evaluated(logbook, second, 0.25)
        latest = evaluated(logbook, second, 0.5)
        frame = retrainings().set_index("run_id")
        assert frame["flops_max"].to_dict() == {first: 1001, second: 1002}
        assert frame["epochs"].to_dict() == {first: 1, second: 2}
        assert frame["val_accuracy"].to_dict() == {first: 0.1, second: 0.2}
        row = frame.loc[second]
        assert (row["evaluate_run"], row["accuracy"], row["base_accuracy"]) == (latest, 0.5, 0.75)
        assert (row["n_groups"], row["target"], row["target_flops"], row["seconds"]) == (4, 0.9, 0.5, 2.5)
        missing = ["evaluate_run", "accuracy", "base_accuracy", "n_groups", "target", "cut_steps", "loss"]
        assert frame.loc[first, missing].isna().all()

    def test_only_finished_ones(self, logbook: Logbook) -> None:
        logbook.run({"stage": "retrain"}, status="FAILED")
        assert retrainings().empty

    def test_how_and_where_it_ran(self, logbook: Logbook) -> None:
        known = {"precision": "bf16", "device": "cuda", "commit": "abc", "study": "s"}
        measured = retraining(logbook, 1, known, precision="auto", scope="all")
        given = retraining(logbook, 2, {"device": "cpu"}, precision="fp32", scope="inner")
        earlier = retraining(logbook, 3)
        frame = retrainings().set_index("run_id")
        shown = frame[["precision", "scope", "device", "commit", "study"]]
        assert shown.loc[measured].tolist() == ["bf16", "all", "cuda", "abc", "s"]
        assert shown.loc[given, ["precision", "scope", "device"]].tolist() == ["fp32", "inner", "cpu"]
        assert shown.loc[earlier].isna().all()
        assert (frame["train_images"] == 5000).all()

    def test_its_places_in_studies(self, logbook: Logbook) -> None:
        shared, tried, alone = retraining(logbook, 1), retraining(logbook, 2, {"trial": "7"}), retraining(logbook, 3)
        places = [{"method": "control", "n_groups": count, "ratio": 0.5, "seed": 0} for count in (2, 5)]
        for place in places:
            logbook.run({"stage": "cell", "cell": json.dumps(place), "upstream.retrain": shared})
        cells = retrainings().set_index("run_id")["cell"]
        assert sorted(json.loads(cells[shared]), key=lambda place: place["n_groups"]) == places
        assert json.loads(cells[tried]) == [{"trial": 7}]
        assert pd.isna(cells[alone])

    def test_the_combination_is_the_one_whose_metrics_are_the_evaluations(self, logbook: Logbook) -> None:
        ways = {"nll_raw": 2.0, "val_nll_raw": 2.1, "nll_vector": 1.0, "val_nll_vector": 1.5}
        ids = [retraining(logbook, number) for number in range(4)]
        evaluated(logbook, ids[0], 0.5, **ways, nll=1.0, val_nll=1.5)
        evaluated(logbook, ids[1], 0.5, **ways, nll=2.0, val_nll=2.1)
        evaluated(logbook, ids[2], 0.5, nll_raw=3.0, nll=3.0)  # without validation data
        evaluated(logbook, ids[3], 0.5)  # of an earlier version
        combination = retrainings().set_index("run_id")["combination"]
        assert combination[ids[:3]].tolist() == ["vector", "raw", "raw"]
        assert pd.isna(combination[ids[3]])

    def test_of_main(self, finished: FinishedMain) -> None:
        frame = retrainings()
        assert types(frame) == TYPES
        (row,) = frame.to_dict("records")
        assert row["run_id"] == finished.upstream("retrain")
        assert row["evaluate_run"] == finished.upstream("evaluate")
        config = finished.config.model_dump()
        for name in set(TEXT) | {"ratio", "kd_weight", "cut_steps", "lr", "batch_size", "epochs", "seed"}:
            assert row[name] == config[name], name
        assert pd.isna([row[name] for name in ("n_groups", "target_flops", "target")]).all()
        for stage, names in {
            "prune": ("members", "params_max", "params_total", "flops_base", "flops_max", "flops_total"),
            "retrain": ("val_accuracy", "seconds", "epochs_saved", "train_images"),
            "evaluate": ("accuracy", "base_accuracy"),
        }.items():
            metrics = finished.place.run(finished.upstream(stage)).data.metrics
            assert {name: row[name] for name in names} == {name: metrics[name] for name in names}
        calibration = json.loads(finished.place.artifact(row["evaluate_run"], "calibration.json").read_text())
        assert row["combination"] == calibration["method"]
        assert (row["role"], row["device"], row["precision"]) == ("ensemble", "cpu", "fp32")
        assert row["commit"] == code_commit()
        assert row["train_images"] > 0


@pytest.mark.parametrize(
    ("method", "members", "flops_max", "role"),
    [
        *(("random", 10, 100, "ensemble"), ("random", 1, 100, "control"), ("random", 1, 800, "base")),
        *(("replicas", 5, 100, "replicas"), ("random", None, None, None)),
    ],
)
def test_roles(method: str, members: int | None, flops_max: int | None, role: str | None) -> None:
    row = {"method": method, "members": members, "flops_max": flops_max, "flops_base": 800}
    table = pd.DataFrame([row, row]).astype(dict.fromkeys(("members", "flops_max", "flops_base"), "Int64"))
    found = role_of(table)
    assert found.isna().all() if role is None else found.tolist() == [role, role]
