"""tune on the tiny data: use of logged runs, results, and leftovers of failed or ended processes."""

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import optuna
import pandas as pd
import pytest
from mlflow.entities import Run
from optuna.trial import TrialState

from sensai.config import CONFIGS
from sensai.errors import InputError
from sensai.stages import prune, retrain, tune
from sensai.stages.evaluate import measured_host
from sensai.stages.prune import prune_execution
from sensai.training.checkpoints import Checkpoints
from sensai.training.workers import member_checkpoints
from tests.conftest import ROOT, Entry, command, tiny
from tests.helpers.pipeline import Place, Pruned, parent_of, stage_of

# Of the person's own configuration, and one more.
TWO = {"ratio": [0.5, 0.3]}


def tuned(place: Place, **parameters: object) -> str:
    return tune.run(place.config("tune", **parameters))


def table(place: Place, run_id: str, name: str) -> pd.DataFrame:
    return pd.read_csv(place.artifact(run_id, f"{name}.csv"))


def best(place: Place, run_id: str) -> dict[str, Any]:
    return json.loads(place.artifact(run_id, "best.json").read_text())


def space(place: Place, content: dict[str, Any]) -> str:
    path = place.folder / "space.json"
    path.write_text(json.dumps(content))
    return str(path)


def trials_of(place: Place) -> list[optuna.trial.FrozenTrial]:
    storage = f"sqlite:///{place.folder}/optuna.db"
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).trials


def trial_runs(place: Place) -> list[Run]:
    return sorted(place.of("trial"), key=lambda run: int(run.data.tags["sensai.trial"]))


@pytest.mark.long
def test_without_trials_it_recommends_what_a_person_logged(pruned: Pruned) -> None:
    place, before = pruned.place, pruned.place.runs()
    run_id = tuned(place, trials=0, register_best=True, max_accuracy_drop=1)
    (row,) = table(place, run_id, "front").itertuples()
    found = place.run(pruned.run_id).data.metrics
    assert (row.run_id, row.source, row.epochs) == (pruned.run_id, "logged", 0)
    assert (row.calibrated_val_accuracy, row.val_accuracy) == (found["calibrated_val_accuracy"], found["val_accuracy"])
    assert row.cost == found["flops_max"] / found["flops_base"]
    chosen = best(place, run_id)
    assert (chosen["within"], chosen["run_id"], chosen["parameters"]["ratio"]) == (True, pruned.run_id, 0.5)
    # Registered is what was recommended, evaluated once; nothing else was computed.
    new = [stage_of(run) for run in place.new_runs(before) if stage_of(run) != "member"]
    assert sorted(new) == ["evaluate", "register", "retrain", "tune"]
    (version,) = place.client.search_model_versions("name = 'sensai-ensemble'")
    assert place.run(version.run_id).data.tags["sensai.upstream.prune"] == pruned.run_id
    assert place.client.get_model_version_by_alias("sensai-ensemble", "candidate").version == version.version
    metrics = place.run(run_id).data.metrics
    assert metrics["trials"] == 1
    assert metrics["best_calibrated_val_accuracy"] == row.calibrated_val_accuracy
    assert metrics["best_val_accuracy"] == row.val_accuracy
    # Evaluated, the ensemble has the accuracy by which it was chosen.
    (evaluated,) = place.of("evaluate")
    assert evaluated.data.metrics["val_accuracy"] == row.calibrated_val_accuracy
    assert metrics["best_flops_speedup"] == pytest.approx(1 / row.cost)
    assert metrics["hypervolume"] == pytest.approx(row.calibrated_val_accuracy * (1 - row.cost))
    # Another version has come: what is chosen is registered already, and becomes the candidate again.
    newer = place.client.create_model_version("sensai-ensemble", version.source, version.run_id)
    place.client.set_registered_model_alias("sensai-ensemble", "candidate", newer.version)
    tuned(place, trials=0, register_best=True, max_accuracy_drop=1)
    assert place.client.get_model_version_by_alias("sensai-ensemble", "candidate").version == version.version


def test_trials_are_nested_runs_with_what_people_filter_by(pruned: Pruned) -> None:
    place, before = pruned.place, pruned.place.runs()
    # Of the person's configuration and a new one the better one is retrained.
    run_id = tuned(place, trials=2, fidelities="0,1", eta=2)
    rows = table(place, run_id, "trials")
    assert list(rows["source"]) == ["logged", "tune", "tune"]
    assert list(rows["epochs"]) == [0, 0, 1]
    assert rows["run_id"][0] == pruned.run_id
    runs = trial_runs(place)
    assert [parent_of(run) for run in runs] == [run_id, run_id]
    for run, trial in zip(runs, trials_of(place)[1:], strict=True):
        assert run.info.status == "FINISHED"
        assert trial.user_attrs["trial_run"] == run.info.run_id
        assert int(run.data.tags["sensai.trial"]) == trial.number
        assert [run.data.metrics["calibrated_val_accuracy"], run.data.metrics["cost"]] == trial.values
        below = [each for each in place.new_runs(before) if parent_of(each) == run.info.run_id]
        assert below
        for each in [run, *below]:
            own = each.data.tags
            assert own["sensai.study"] == place.run(run_id).data.tags["sensai.study"]
            assert own["sensai.trial"] == str(trial.number)
            assert own["sensai.data_digest"] == place.run(pruned.run_id).data.tags["sensai.data_digest"]
            assert own["sensai.upstream.baseline"] == pruned.upstream("baseline")
            assert {name: own[name] for name in trial.params} == {k: str(v) for k, v in trial.params.items()}
    new = place.new_runs(before)
    assert not [run for run in new if stage_of(run) in ("baseline", "activations")]
    assert {"front.png", "hypervolume.png", "slices.png", "space.json", "fidelities.csv", "importances.csv"} <= (
        place.artifacts(run_id)
    )
    assert table(place, run_id, "hypervolume")["hypervolume"].is_monotonic_increasing

    # Asked for the same again it has nothing to do; asked for more it goes on.
    again = tuned(place, trials=2, fidelities="0,1", eta=2)
    assert len(trial_runs(place)) == 2
    pd.testing.assert_frame_equal(table(place, again, "trials"), rows)
    more = table(place, tuned(place, trials=3, fidelities="0,1", eta=2), "trials")
    assert len(trial_runs(place)) == 3
    pd.testing.assert_frame_equal(more[:3][rows.columns.intersection(more.columns)], rows, check_dtype=False)


def test_what_the_store_knows_is_never_computed_again(pruned: Pruned) -> None:
    place, file = pruned.place, space(pruned.place, TWO)
    retrain.run(place.config("retrain"))
    before = place.runs()
    rows = table(place, tuned(place, space=file, trials=10), "trials")
    # The person's retraining stands for the pruning that it was made from.
    assert sorted(zip(rows["params.ratio"], rows["epochs"], rows["source"], strict=True)) == [
        (0.3, 1, "tune"),
        (0.5, 1, "logged"),
    ]
    assert [stage_of(run) for run in place.new_runs(before)].count("retrain") == 1
    # Whatever a study may not learn from, the store still answers.
    before = place.runs()
    alone = table(place, tuned(place, space=file, trials=10, warm_start="none", study="alone"), "trials")
    assert sorted(alone["source"]) == ["tune", "tune"]
    assert sorted(alone["run_id"]) == sorted(rows["run_id"])
    assert {stage_of(run) for run in place.new_runs(before)} == {"tune", "trial"}


def forget(place: Place, run_id: str) -> float:
    """Delete `calibrated_val_accuracy` of a run, as if an earlier version had made it; return its value."""
    value = place.run(run_id).data.metrics["calibrated_val_accuracy"]
    with closing(sqlite3.connect(place.folder / "mlflow.db")) as database, database:
        for name in ("metrics", "latest_metrics"):
            database.execute(f"DELETE FROM {name} WHERE run_uuid = ? AND key = 'calibrated_val_accuracy'", (run_id,))
    return value


@pytest.mark.parametrize("epochs", [0, 1])
def test_runs_of_earlier_versions_are_no_trials_but_answer_them(pruned: Pruned, epochs: int) -> None:
    place, file = pruned.place, space(pruned.place, {"ratio": [0.5]})
    last = retrain.run(place.config("retrain")) if epochs else pruned.run_id
    expected = forget(place, last)
    asked = {"space": file, "epochs": epochs}
    assert table(place, tuned(place, trials=0, **asked), "trials").empty
    before = place.runs()
    (row,) = table(place, tuned(place, trials=1, **asked), "trials").to_dict("records")
    assert (row["source"], row["run_id"], row["epochs"]) == ("tune", last, epochs)
    assert row["calibrated_val_accuracy"] == expected
    # Nothing was cut or trained again, and the earlier run stays as it was.
    assert {stage_of(run) for run in place.new_runs(before)} == {"tune", "trial"}
    assert "calibrated_val_accuracy" not in place.run(last).data.metrics
    (trial,) = trial_runs(place)
    assert trial.data.metrics["calibrated_val_accuracy"] == expected


def test_only_runs_that_the_study_could_have_made_are_trials(pruned: Pruned) -> None:
    place, file = pruned.place, space(pruned.place, {"ratio": {"low": 0.2, "high": 0.6}})
    prune.run(place.config("prune", ratio=0.7))
    others = prune.run(place.config("prune", min_channels=3))
    assert list(table(place, tuned(place, space=file, trials=0), "trials")["run_id"]) == [pruned.run_id]
    # Fixed parameters are the study's.
    found = table(place, tuned(place, space=file, trials=0, min_channels=3, study="mine"), "trials")
    assert list(found["run_id"]) == [others]
    with pytest.raises(InputError, match="study='mine': stands in the storage with another"):
        tuned(place, space=file, trials=0, study="mine")


def test_where_nothing_is_within_the_nearest_is_named_and_not_registered(pruned: Pruned) -> None:
    place, file = pruned.place, space(pruned.place, {"ratio": [0.9]})
    run_id = tuned(place, space=file, trials=1, epochs=0, max_accuracy_drop=0, register_best=True)
    said = best(place, run_id)
    assert (said["within"], said["parameters"]["ratio"]) == (False, 0.9)
    assert said["accuracy_drop"] > 0
    assert not place.of("register")
    nothing = tuned(place, space=file, trials=0, epochs=0, round_to=4)
    assert best(place, nothing) == {"within": False, "reason": "there is no finished trial"}


def test_a_failed_trial_says_why_and_is_tried_once_more(pruned: Pruned, monkeypatch: pytest.MonkeyPatch) -> None:
    place, make_plans, calls = pruned.place, prune_execution.make_plans, []

    def fails_once(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("broken on purpose")
        return make_plans(*arguments)

    monkeypatch.setattr(prune_execution, "make_plans", fails_once)
    rows = table(place, tuned(place, space=space(place, {"ratio": [0.3]}), trials=1, epochs=0), "trials")
    assert list(rows["params.ratio"]) == [0.3]
    failed, again = trial_runs(place)
    assert [failed.info.status, again.info.status] == ["FAILED", "FINISHED"]
    assert failed.data.tags["sensai.failure"] == "RuntimeError: broken on purpose"
    assert [trial.state for trial in trials_of(place)] == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_target_that_cannot_be_reached_is_not_tried_again(pruned: Pruned) -> None:
    place = pruned.place
    run_id = tuned(place, space=space(place, {"target_flops": [1e-6]}), trials=1, epochs=0)
    (failed,) = trial_runs(place)
    assert "target_flops=1e-06" in failed.data.tags["sensai.failure"]
    assert best(place, run_id)["within"] is False


@pytest.mark.parametrize(
    ("parameters", "content", "said"),
    [
        ({}, {"ratio": [1.5]}, "ratio=1.5: must be less than 1"),
        ({}, {"method": ["random"]}, "with method=random: n_groups='': method=random needs the number of groups"),
        ({}, {"method": ["random"], "n_groups": [2, 4]}, "n_groups: up to 4, but there are only 3 classes"),
        ({"fidelities": "0,2"}, {"epochs": [1, 2]}, "fidelities='0,2': the space .* searches epochs itself"),
        ({"dataset": f"{ROOT}/tests/helpers/tiny_data.py:one_of_each"}, TWO, "has no validation split"),
        (
            {"dataset": f"{ROOT}/tests/helpers/tiny_data.py:without_test", "register_best": True},
            TWO,
            "has no test split",
        ),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_anything_is_computed(
    place: Place, parameters: dict[str, object], content: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        tuned(place, space=space(place, content), **parameters)
    assert {stage_of(run) for run in place.runs().values()} <= {"", "tune"}


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"mode": "constrained"}, "mode='constrained': takes either limit or min_val_accuracy, not neither"),
        ({"mode": "constrained", "limit": 0.5, "min_val_accuracy": 0.9}, "not limit and min_val_accuracy"),
        ({"limit": 0.5}, "limit=0.5: goes with mode=constrained"),
        ({"fidelities": "2,0"}, "fidelities='2,0': must be epochs in ascending order"),
        ({"eta": 1}, "eta='1': must be greater than or equal to 2"),
        ({"space": "nowhere.json"}, "space='nowhere.json': there is no such file"),
    ],
)
def test_parameters_that_do_not_go_together(launched: Entry, store_uri: str, parameters: dict, said: str) -> None:
    result = launched("tune", **parameters)
    assert result.returncode == 2
    assert said in result.stderr


def test_accuracy_below_a_limit_of_cost(pruned: Pruned) -> None:
    place = pruned.place
    found = place.run(pruned.run_id).data.metrics
    share = found["flops_max"] / found["flops_base"]
    file = space(place, {"ratio": [0.2, 0.6]})
    run_id = tuned(place, space=file, mode="constrained", limit=share, trials=2)
    rows = table(place, run_id, "trials").set_index("params.ratio")
    # What costs too much is not trained.
    assert rows["epochs"].to_dict() == {0.2: 0, 0.6: 1}
    chosen = best(place, run_id)
    assert (chosen["within"], chosen["parameters"]["ratio"]) == (True, 0.6)
    assert {trial.params["ratio"]: trial.constraints["limit"] > 0 for trial in trials_of(place)} == {
        0.2: True,
        0.6: False,
    }


def test_cost_at_an_accuracy(pruned: Pruned) -> None:
    place = pruned.place
    logged = retrain.run(place.config("retrain", ratio=0.5))
    enough = place.run(logged).data.metrics["calibrated_val_accuracy"]
    file = space(place, {"ratio": [0.2, 0.5]})
    run_id = tuned(place, space=file, mode="constrained", min_val_accuracy=enough, trials=1)
    chosen = best(place, run_id)
    assert (chosen["within"], chosen["run_id"]) == (True, logged)
    # What costs more than what is known to be enough is not trained.
    (run,) = trial_runs(place)
    assert run.info.status == "KILLED"
    assert "is known to be enough" in run.data.tags["sensai.failure"]
    assert len(place.of("retrain")) == 1


def test_the_pruner_ends_a_training_after_an_epoch(pruned: Pruned, monkeypatch: pytest.MonkeyPatch) -> None:
    place = pruned.place
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: True)
    file = space(place, {"ratio": [0.6]})
    tuned(place, space=file, mode="constrained", limit=1, trials=1, epochs=400, warm_start="none")
    (trial,) = trials_of(place)
    assert trial.state == TrialState.PRUNED
    (retraining,) = place.of("retrain")
    assert retraining.info.status == "KILLED"
    assert "pruned after" in retraining.data.tags["sensai.failure"]
    members = [
        run for run in place.runs().values() if stage_of(run) == "member" and parent_of(run) == parent_of(retraining)
    ]
    had = {len(place.client.get_metric_history(run.info.run_id, "curve/loss")) for run in members}
    assert len(members) == 3
    assert 0 < max(had) < 400
    assert not [run for run in place.runs().values() if run.info.status == "RUNNING"]


@pytest.mark.long
def test_latency_is_measured_once(pruned: Pruned, monkeypatch: pytest.MonkeyPatch) -> None:
    place, file = pruned.place, space(pruned.place, TWO)
    run_id = tuned(place, space=file, objective="latency", fidelities="0,1", eta=2, trials=3)
    rows = table(place, run_id, "trials")
    # Nobody has timed what the person logged.
    assert set(rows["source"]) == {"tune"}
    assert rows["cost"].to_list() == (rows["latency_member_max_ms"] / rows["latency_base_ms"]).to_list()
    assert (rows["cost"] > 0).all()
    # Retrained members are as fast as they were.
    assert rows.groupby("params.ratio")["cost"].nunique().max() == 1
    assert set(rows["epochs"]) == {0, 1}
    other = table(place, tuned(place, space=file, objective="latency", trials=0, study="other"), "trials")
    assert set(other["source"]) == {"logged"}
    assert set(other["cost"]) == set(rows["cost"])
    # Timed otherwise they are no costs of the same kind: neither the study nor what was logged is gone on with.
    monkeypatch.setattr(measured_host, "VERSION", measured_host.VERSION + 1)
    assert table(place, tuned(place, space=file, objective="latency", trials=0), "trials").empty


LONG = 30


def long(place: Place) -> dict[str, object]:
    """Return one trial that is trained for a while."""
    file = space(place, {"ratio": [0.6]})
    own = {"space": file, "trials": 1, "epochs": LONG, "heartbeat": 1, "work_dir": str(place.folder / "work")}
    return tiny("tune", **own)


@pytest.fixture
def training(pruned: Pruned) -> Iterator[tuple[Place, "subprocess.Popen[bytes]"]]:
    """Yield a process that tunes, while it trains."""
    place = pruned.place
    with subprocess.Popen(
        command("tune", **long(place)),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # The tests may have been started in the background, where interrupts are ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            while epochs_had(place) < 2:
                assert process.poll() is None
                time.sleep(0.02)
            yield place, process
        finally:
            process.kill()


def epochs_had(place: Place) -> int:
    """Return the epochs of the slowest member, from the checkpoints."""
    folders = list((place.folder / "work" / "checkpoints").glob("*/cut_1"))
    found = [member_checkpoints(folder, number).history() for folder in folders for number in range(3)]
    return min((len(progress.epochs) if progress else 0 for progress in found), default=0)


def go_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> int:
    """Tune to the end, and return the number of epochs that every member had to be trained for."""
    write, written = Checkpoints.write, []

    def counting(self: Checkpoints, *arguments: Any) -> None:
        written.append(self.folder.name)
        write(self, *arguments)

    monkeypatch.setattr(Checkpoints, "write", counting)
    tune.run(CONFIGS["tune"](**long(place)))
    return max(written.count(name) for name in set(written))


@pytest.mark.long  # a killed worker's trial is tried again in tests/tuning/test_worker.py
@pytest.mark.processes
@pytest.mark.parametrize(("ended_by", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_process_that_is_ended_leaves_a_trial_that_the_next_one_goes_on_with(
    ended_by: signal.Signals,
    status: int,
    training: tuple[Place, "subprocess.Popen[bytes]"],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, process = training
    process.send_signal(ended_by)
    assert process.wait(30) == status
    had = epochs_had(place)
    (begun,) = trial_runs(place)
    waits = [TrialState.FAIL, TrialState.WAITING]
    if ended_by is not signal.SIGKILL:
        # Ended in order: nothing is left open, and who comes next finds what there is to do.
        assert not [run for run in place.runs().values() if run.info.status == "RUNNING"]
        assert [trial.state for trial in trials_of(place)] == waits
    assert go_on(place, monkeypatch) == LONG - had
    killed, finished = trial_runs(place)
    assert [killed.info.run_id, killed.info.status, finished.info.status] == [begun.info.run_id, "KILLED", "FINISHED"]
    assert [trial.state for trial in trials_of(place)] == [TrialState.FAIL, TrialState.COMPLETE]
    assert not [run for run in place.runs().values() if run.info.status == "RUNNING"]
