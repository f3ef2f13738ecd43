"""The grouping study: its cells as runs, their summary, kills, and studies of only logged runs."""

import json
import os
import signal
import subprocess
import time
from itertools import combinations

import numpy as np
import pandas as pd
import psutil
import pytest

from sensai.analysis.differences import right_answers, right_in_group
from sensai.config import PruneConfig
from sensai.errors import InputError
from sensai.stages import grouping_study
from sensai.stages.prune import prune_execution
from tests.conftest import ROOT, command, tiny
from tests.helpers.pipeline import Place, Pruned, parent_of, stage_of
from tests.helpers.processes import still_running

STUDY = {"methods": "random,most_similar", "group_counts": "2", "epochs": 1, "control": True}


def studied(place: Place, **parameters: object) -> str:
    return grouping_study.run(place.config("grouping_study", **STUDY | parameters))


def table(place: Place, run_id: str, name: str) -> pd.DataFrame:
    return pd.read_csv(place.artifact(run_id, name))


@pytest.mark.long
def test_a_study_of_retrained_groups(pruned: Pruned) -> None:
    place, before = pruned.place, pruned.place.runs()
    run_id = studied(place, repeats=1, seed=3)
    cells = table(place, run_id, "cells.csv")
    assert sorted(zip(cells["method"], cells["seed"], strict=True)) == [
        (method, 3) for method in ("control", "most_similar", "random")
    ]
    for cell in cells.itertuples():
        run = place.run(cell.run_id)
        assert parent_of(run) == run_id
        assert run.info.status == "FINISHED"
        assert run.data.params["method"] == cell.method
        # What the cell carries is what its stages found.
        found = {stage: place.run(run.data.tags[f"sensai.upstream.{stage}"]) for stage in ("prune", "evaluate")}
        assert cell.accuracy == found["evaluate"].data.metrics["accuracy"]
        assert cell.flops_share == found["prune"].data.metrics["flops_max"] / found["prune"].data.metrics["flops_base"]
        assert run.data.tags["sensai.upstream.activations"] == pruned.upstream("activations")
        configured = json.loads(run.data.tags["sensai.config"])
        assert configured["n_groups"] == (1 if cell.method == "control" else 2)
        assert configured["seed"] == cell.seed
    # Activations are not read again, and every new stage run and member's run is below a cell.
    new = place.new_runs(before)
    assert not [run for run in new if stage_of(run) in ("baseline", "activations")]
    stages = [run for run in new if stage_of(run) in ("group", "prune", "retrain", "evaluate", "member")]
    assert {parent_of(run) for run in stages} <= set(cells["run_id"])
    # The control has no more FLOPs than the largest member, and hardly fewer.
    shares = cells.groupby("method")["flops_share"].max()
    most = max(shares["random"], shares["most_similar"])
    assert 0.8 * most < shares["control"] <= most

    comparisons = table(place, run_id, "comparisons.csv")
    pairs = comparisons.groupby("measure").apply(
        lambda rows: {tuple(sorted(pair)) for pair in zip(rows["method_a"], rows["method_b"], strict=True)}
    )
    assert pairs["flops_share"] == {("most_similar", "random")}
    assert pairs["accuracy"] == set(combinations(["control", "most_similar", "random"], 2))
    means = cells.groupby("method")["accuracy"].mean()
    for row in comparisons[comparisons["measure"] == "accuracy"].itertuples():
        assert row.difference == pytest.approx(means[row.method_a] - means[row.method_b])
        assert row.verdict
    right = np.stack([right_answers(each, tracking_uri=place.uri) for each in cells["evaluate_run"]])
    assert right.mean(axis=1) == pytest.approx(cells["accuracy"])
    assert {"accuracy.png", "flops_share.png", "summary_accuracy.csv", "summary_flops_share.csv"} <= place.artifacts(
        run_id
    )


@pytest.mark.long
def test_a_longer_study_computes_only_what_is_missing_and_a_logged_one_nothing(pruned: Pruned) -> None:
    place, few = pruned.place, {"epochs": 0, "methods": "random,min_flops"}
    short = set(table(place, studied(place, **few, repeats=1), "cells.csv")["run_id"])
    before = place.runs()
    logged = studied(place, **few, source="logged")
    assert [run.info.run_id for run in place.new_runs(before)] == [logged]
    assert set(table(place, logged, "cells.csv")["run_id"]) == short

    longer = studied(place, **few, repeats=2)
    cells = table(place, longer, "cells.csv")
    assert short < set(cells["run_id"])
    assert sorted(cells.loc[~cells["run_id"].isin(short), "seed"]) == [1, 1]
    assert len([run for run in place.new_runs(before) if stage_of(run) == "cell"]) == 2
    assert set(table(place, longer, "comparisons.csv")["measure"]) == {"flops_share", "separability"}
    # The share of a few images, whichever method grouped the classes, is known no better for being measured twice.
    right = np.stack([right_in_group(each, tracking_uri=place.uri) for each in cells["prune_run"]])
    assert right.mean(axis=1) == pytest.approx(cells["separability"])
    summary = table(place, longer, "summary_separability.csv").set_index("method")
    alike = summary.loc["min_flops"]
    assert alike["spread"] == 0
    assert 0 < alike["mean"] < 1
    assert alike["low"] < alike["mean"] < alike["high"]
    # More cells are another answer, not the one of before from the cache; the number of repeats asked for does not matter.
    again = studied(place, **few, repeats=1, source="logged")
    for name in ("cells.csv", "comparisons.csv"):
        pd.testing.assert_frame_equal(table(place, again, name), table(place, longer, name))
    forced = table(place, studied(place, epochs=0, methods="random", repeats=1, force=True), "cells.csv")["run_id"]
    made_anew = {place.run(each).data.tags["sensai.upstream.prune"] for each in forced}
    assert not made_anew & {place.run(each).data.tags["sensai.upstream.prune"] for each in cells["run_id"]}
    with pytest.raises(InputError, match="source='logged': the store has no cell with these parameters"):
        studied(place, **few, zero_threshold=0.1, source="logged")


@pytest.mark.long
def test_a_killed_study_goes_on(pruned: Pruned) -> None:
    place = pruned.place
    own = {"methods": "random", "control": False, "repeats": 2}
    parameters = STUDY | own | {"work_dir": str(place.folder / "work"), "jobs": 2}
    with subprocess.Popen(
        command("grouping_study", **tiny("grouping_study", **parameters)),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        while not any(run.info.status == "FINISHED" for run in place.of("retrain")):
            assert process.poll() is None
            time.sleep(0.05)
        workers = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
    assert still_running(workers, 20) == []
    trained = {run.info.run_id for run in place.of("retrain") if run.info.status == "FINISHED"}
    run_id = studied(place, **own, jobs=1)
    cells = [place.run(each) for each in table(place, run_id, "cells.csv")["run_id"]]
    assert trained <= {cell.data.tags["sensai.upstream.retrain"] for cell in cells}
    assert len(cells) == 2
    # Nothing is left open by the process that was killed.
    assert not [run for run in place.runs().values() if run.info.status == "RUNNING"]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"group_counts": "4"}, "group_counts='4': there are only 3 classes"),
        ({"epochs": 1, "dataset": f"{ROOT}/tests/helpers/tiny_data.py:without_test"}, "has no test split"),
    ],
)
def test_what_cannot_be_studied_is_refused_before_any_cell_is_computed(
    pruned: Pruned, parameters: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        studied(pruned.place, **parameters)
    assert not pruned.place.of("cell")


def test_cells_that_fail_are_named_after_the_others_are_trained(pruned: Pruned) -> None:
    place = pruned.place
    # With one class a group, no plan gets the binary member that small; of the pair it does not matter.
    with pytest.raises(InputError, match=r"cell random, 2 groups, ratio=0.5, seed=0: target_flops=1e-06.*seed=1"):
        studied(place, methods="random", epochs=0, target_flops=1e-6, repeats=2)
    assert {run.info.status for run in place.of("cell")} == {"FAILED"}


def test_cells_beside_one_that_fails_are_finished(pruned: Pruned, monkeypatch: pytest.MonkeyPatch) -> None:
    place, make_plans = pruned.place, prune_execution.make_plans

    def fails_once(config: PruneConfig, *arguments: object) -> object:
        if config.seed == 1:
            raise InputError("broken on purpose")
        return make_plans(config, *arguments)

    monkeypatch.setattr(prune_execution, "make_plans", fails_once)
    with pytest.raises(InputError, match="seed=1: broken on purpose"):
        studied(place, methods="random", epochs=0, repeats=2)
    assert sorted(run.info.status for run in place.of("cell")) == ["FAILED", "FINISHED"]
