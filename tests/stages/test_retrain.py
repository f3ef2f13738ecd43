"""retrain: stops, budget, precision and workers, as logged."""

import json
import subprocess

import pytest
import torch

from sensai.config.usage import parameters_of
from sensai.errors import InputError
from sensai.evaluation import cross_fitted_thresholds, member_metrics, run_networks
from sensai.pipeline.session import Session, dataset_of
from sensai.stages import retrain
from sensai.stages.retrain import retrain_execution
from sensai.tracking import Store
from tests.conftest import command, tiny
from tests.helpers.pipeline import Place, Pruned, stage_of


@pytest.fixture
def place(pruned: Pruned, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Return a place in which everything before retraining is finished."""
    return pruned.place.copy(tmp_path_factory.mktemp("retrain"))


def retrained(place: Place, **parameters: object) -> str:
    with place.active():
        return retrain.run(place.config("retrain", **parameters))


def test_stops_log_what_they_saved_and_what_they_cost(place: Place) -> None:
    whole = place.run(retrained(place, epochs=4)).data.metrics
    assert whole["epochs_saved"] == whole["seconds_saved"] == 0
    assert "accuracy_given_up" not in whole
    stopped = place.run(retrained(place, epochs=4, target=0.01)).data.metrics
    assert stopped["epochs_saved"] == 9
    # Every epoch of a member takes as long as its first.
    assert stopped["seconds_saved"] == pytest.approx(3 * stopped["seconds"])
    assert stopped["accuracy_given_up"] == pytest.approx(whole["val_accuracy"] - stopped["val_accuracy"])


def test_what_a_stop_has_cost_is_not_made_up(place: Place) -> None:
    assert "accuracy_given_up" not in place.run(retrained(place, epochs=4, patience=1)).data.metrics


@pytest.mark.long
@pytest.mark.processes
def test_a_budget_ends_the_members_together(place: Place) -> None:
    run_id = retrained(place, epochs=9, budget="8epochs", jobs=2)
    assert place.run(run_id).data.metrics["epochs_saved"] == 27 - 8
    members = [run for run in place.of("member") if run.data.tags["sensai.upstream.retrain"] == run_id]
    assert {run.data.tags["sensai.stopped_by"] for run in members} == {"budget"}
    assert sum(run.data.metrics["epochs_run"] for run in members) == 8
    for run in members:
        curve = place.client.get_metric_history(run.info.run_id, "curve/train_loss")
        assert [point.step for point in curve] == list(range(int(run.data.metrics["epochs_run"])))


def test_a_measured_precision_is_logged(place: Place) -> None:
    run = place.run(retrained(place, precision="auto"))
    # Where the machine is so busy that no time is met twice, it is float32 anyway.
    allowed = {"bf16", "fp32"} if run.data.metrics["bf16_speedup"] > 1.2 else {"fp32"}
    assert run.data.tags["sensai.precision"] in allowed


def test_a_measured_precision_stays_with_the_checkpoints(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the measurement, which on another day may come out otherwise."""
    with monkeypatch.context() as patch:
        patch.setattr(retrain_execution, "retrain_members", _killed)
        with pytest.raises(KeyboardInterrupt):
            retrained(place, precision="auto")
    (kept,) = (place.folder / "work" / "checkpoints").glob("*/precision.json")
    kept.write_text(json.dumps({"precision": "bf16", "bf16_speedup": 7.0}))
    run = place.run(retrained(place, precision="auto"))
    assert (run.data.tags["sensai.precision"], run.data.metrics["bf16_speedup"]) == ("bf16", 7.0)


def test_members_trained_jointly_are_judged_at_cross_fitted_thresholds(place: Place) -> None:
    run_id = retrained(place, loss="joint", method="random", n_groups=2, epochs=2)
    with place.active():
        ensemble = retrain.load(Store.connect(), run_id)
    val = dataset_of(place.config("retrain")).val
    assert val is not None
    images = [(ensemble.normalization(torch.from_numpy(val.images[val.rows])), torch.from_numpy(val.labels))]
    outputs = run_networks(ensemble.networks, images)
    thresholds = cross_fitted_thresholds(outputs, ensemble)
    expected = member_metrics(outputs, ensemble, thresholds)
    members = {run.data.tags["sensai.member"]: run for run in place.of("member")}
    assert len(members) == 2
    for number, metrics in enumerate(expected):
        run = members[str(number)]
        assert {name: run.data.metrics[name] for name in metrics} == pytest.approx(metrics)
        assert run.data.tags["sensai.thresholds"] == "cross-fitted"
        # The curves are of all members together, as are the stops and the choice of the best epoch.
        assert "curve/accuracy" in run.data.metrics
    first, second = (members[number].data.metrics["curve/accuracy"] for number in "01")
    assert first == second


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_members_that_fail_fail_the_run_which_says_why(place: Place) -> None:
    with pytest.raises(InputError, match="the loss is not finite in epoch 0"):
        retrained(place, lr=1000, weight_decay=1000)
    failed = [run for run in place.of("retrain") if run.info.status == "FAILED"]
    assert "not finite" in failed[0].data.tags["sensai.failure"]
    assert {run.info.status for run in place.runs().values() if stage_of(run) == "member"} == {"FAILED"}


def test_an_address_of_a_cluster_goes_with_the_backend() -> None:
    with pytest.raises(ValueError, match="ray_address='head:6379': goes with backend=ray"):
        retrain.RetrainConfig(ray_address="head:6379")
    assert retrain.RetrainConfig(ray_address="head:6379", backend="ray").ray_address == "head:6379"


def test_mixed_images_go_with_weights() -> None:
    with pytest.raises(ValueError, match="mix='mixup': goes with balance=weight"):
        retrain.RetrainConfig(mix="mixup", balance="sample")
    # Joint losses ignore `balance`.
    assert retrain.RetrainConfig(mix="mixup", balance="sample", loss="joint").mix == "mixup"


def test_a_recipe_is_trained_and_stored_by_itself(place: Place) -> None:
    """All of it together, on the members and on the control."""
    recipe = {"loss": "joint_kd", "kd_temperature": 2, "logit_standardization": True, "label_smoothing": 0.1}
    recipe |= {"weight_averaging": "ema", "auto_augment": "trivialaugment", "mix": "mixup", "epochs": 1}
    runs = {retrained(place, **recipe), retrained(place, **recipe | {"mix": "cutmix"}), retrained(place, epochs=1)}
    assert len(runs) == 3
    assert retrained(place, **recipe) in runs
    assert all(0 <= place.run(run_id).data.metrics["val_accuracy"] <= 1 for run_id in runs)


def test_the_workers_count_only_where_a_budget_is_dealt_to_them(place: Place) -> None:
    session = Session.connect()

    def fingerprint(**parameters: object) -> str:
        return retrain.stage.fingerprint(retrain.RetrainConfig(**parameters), session, "upstream")

    assert fingerprint(jobs=1) == fingerprint(jobs=2)
    assert fingerprint(jobs=1, budget="9epochs") != fingerprint(jobs=2, budget="9epochs")


def test_the_fingerprint_holds_what_the_parts_use_and_no_new_default(place: Place) -> None:
    session = Session.connect()

    def fingerprint(**parameters: object) -> str:
        return retrain.stage.fingerprint(retrain.RetrainConfig(**parameters), session, "upstream")

    # Stored runs know none of these parameters.
    later = {name for name, each in parameters_of(retrain.RetrainConfig).items() if each.usage.later}
    assert {"schedule", "stop_rules", "kd_temperature", "weight_averaging", "mix"} <= later
    assert not later & retrain.RetrainConfig().fingerprint_parameters().keys()
    assert fingerprint(stop_rules="plateau,target", schedule="one_cycle") == fingerprint()
    assert fingerprint(stop_rules="plateau", patience=2) != fingerprint(patience=2)
    assert fingerprint(stop_rules="plateau", target=0.9) == fingerprint(stop_rules="plateau")
    assert fingerprint(stop_rules="target", patience=2) == fingerprint(stop_rules="target")
    assert fingerprint(loss="joint", balance="sample") == fingerprint(loss="joint")
    assert fingerprint(loss="kd", kd_weight=0.3) != fingerprint(loss="kd")
    assert fingerprint(loss="bce", kd_weight=0.3) == fingerprint(loss="bce")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"loss": "joit"}, r"is no loss; did you mean joint or joint_kd\?"),
        ({"schedule": "one_circle"}, r"is no schedule; did you mean one_cycle\?"),
        ({"stop_rules": "plateau,targe"}, r"'targe' is no stop rule; did you mean target\?"),
        ({"stop_rules": "target,target"}, "must name each stop rule once"),
    ],
    ids=str,
)
def test_a_part_that_there_is_not_is_refused(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrain.RetrainConfig(**parameters)


@pytest.mark.parametrize("budget", ["0s", "0epochs", "5", "5 s", "-1s", "epochs"])
def test_a_budget_that_is_none_is_refused(budget: str) -> None:
    with pytest.raises(ValueError, match="must be a number of epochs or seconds above 0"):
        retrain.RetrainConfig(budget=budget)


@pytest.mark.long
@pytest.mark.processes
def test_workers_on_ray_give_the_members_that_workers_of_this_machine_give(place: Place) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    given = {**tiny("retrain"), "jobs": 2, "threads": 1, "backend": "ray", "work_dir": "work", "epochs": 2}
    with place.active():
        # Ray reads its settings when it is imported, and a relative path is one below the caller's folder.
        subprocess.run(command("retrain", **given), cwd=place.folder, check=True, timeout=300)
        (on_ray,) = place.of("retrain")
    here = retrained(place, epochs=2, jobs=1, threads=1, force=True)
    first, second = (place.artifact(run_id, "members") for run_id in (on_ray.info.run_id, here))
    assert {path.name for path in first.iterdir()} == {path.name for path in second.iterdir()}
    assert all(path.read_bytes() == (second / path.name).read_bytes() for path in first.iterdir())
