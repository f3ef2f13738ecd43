"""`cut_steps` of retrain: channels removed in each step, logged texts, and a killed run that resumes in its step."""

import json
import signal
import subprocess
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensai.config import RetrainConfig
from sensai.models.widths import widths
from sensai.pipeline.context import Context
from sensai.pipeline.lineage import lineage
from sensai.pipeline.session import Session
from sensai.policy.member_plans import MemberPlan
from sensai.stages import prune, retrain
from sensai.stages.retrain import retrain_execution
from sensai.stages.retrain.gradual import epochs_of_steps, plans_of_steps
from sensai.tracking import Store
from sensai.training.checkpoints import TrainingHistory
from sensai.training.members import retrain_members
from tests.conftest import command, tiny
from tests.helpers.pipeline import Place, Pruned, stage_of

GRADUAL = {"cut_steps": 3, "cut_epochs": 2, "epochs": 4}


Plans = Sequence[MemberPlan]


def steps(place: Place, **parameters: object) -> list[Plans]:
    """Return the plans of a retraining's steps; make its prune run if there is none."""
    config = place.config("retrain", **parameters)
    assert isinstance(config, RetrainConfig)
    session = Session.connect()
    upstream = lineage(session.store, "prune", prune.run(config.upstream(prune.stage.config)))
    run = session.store.create("steps", None)
    return plans_of_steps(config, Context(config, session, run, upstream, "", place.folder / "checkpoints"))


def removed(plans: Plans) -> list[int]:
    return [sum(len(channels) for channels in member.plan.values()) for member in plans]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"criterion": "l1", "target_flops": 0.3},
        {"target_flops": 0.3, "target_of": "ensemble"},
        {"criterion": "random", "ratio": 0.7},
        {"policy": "threshold", "apoz_threshold": 0.3, "mean_threshold": 1.0, "criterion": "taylor"},
        {"method": "random", "n_groups": 2, "round_to": 8},
    ],
    ids=["ratio", "flops", "ensemble", "random", "threshold", "groups"],
)
def test_steps_lead_evenly_to_the_plans_of_prune(pruned: Pruned, parameters: dict[str, object]) -> None:
    made = steps(pruned.place, **GRADUAL, **parameters)
    assert len(made) == 3
    assert epochs_of_steps(3, RetrainConfig(**GRADUAL)) == [2, 2, 4]
    for number, step in enumerate(made, 1):
        assert removed(step) == [round(number * count / 3) for count in removed(made[-1])]
    for smaller, larger in pairwise(made):
        for before, after in zip(smaller, larger, strict=True):
            assert before.classes == after.classes
            assert all(set(channels) <= set(after.plan[site]) for site, channels in before.plan.items())


def test_every_step_cuts_however_many_are_asked_for(pruned: Pruned) -> None:
    made = steps(pruned.place, **{**GRADUAL, "cut_steps": 500})
    totals = [0, *(sum(removed(step)) for step in made)]
    assert all(before < now for before, now in pairwise(totals))
    assert len(made) == max(removed(made[-1])) < 500


def test_where_nothing_is_cut_there_is_one_step(pruned: Pruned) -> None:
    (only,) = steps(pruned.place, **GRADUAL, ratio=0.0)
    assert removed(only) == [0, 0, 0]


def test_a_step_is_what_prune_would_have_cut_at_its_ratio(pruned: Pruned) -> None:
    for ranking in ("global", "layer"):
        first, _ = steps(pruned.place, cut_steps=2, ratio=0.5, ranking=ranking)
        half = pruned.place.config("prune", ratio=0.25, ranking=ranking)
        for member, expected in zip(first, prune.load(Store.connect(), prune.run(half)), strict=True):
            assert member.classes == expected.classes
            for site, channels in expected.plan.items():
                assert np.array_equal(member.plan[site], channels), (ranking, site)


@pytest.mark.parametrize("parameters", [{}, {"cut_steps": 3, "epochs": 0}])
def test_without_steps_the_cut_is_made_at_once(pruned: Pruned, parameters: dict[str, object]) -> None:
    (only,) = steps(pruned.place, **parameters)
    for member, expected in zip(only, prune.load(Store.connect(), pruned.run_id), strict=True):
        assert {site: channels.tolist() for site, channels in member.plan.items()} == {
            site: channels.tolist() for site, channels in expected.plan.items()
        }


def test_the_members_are_those_of_prune_and_their_runs_tell_all_steps(pruned: Pruned) -> None:
    place, before = pruned.place, pruned.place.runs()
    run_id = retrain.run(place.config("retrain", **GRADUAL, patience=1, min_gain=0.4))
    run = place.run(run_id)
    assert "4 epochs cut_steps=3" in run.info.run_name
    plans = prune.load(Store.connect(), pruned.run_id)
    for member, planned in zip(retrain.load(Store.connect(), run_id).members, plans, strict=True):
        channels = {"features.0": 32, "features.3": 32, "features.7": 64, "features.10": 64}
        for site, width in channels.items():
            assert widths(member.network)[site][0] == width - len(planned.plan[site])

    members = [run for run in place.new_runs(before) if stage_of(run) == "member"]
    assert len(members) == 3
    for member in members:
        epochs = int(member.data.metrics["epochs_run"])
        cuts = json.loads(member.data.tags["sensai.cuts"])
        # A member that stops early in a step is cut the sooner.
        assert len(cuts) == 2
        assert all(1 <= length <= 2 for length in np.diff([0, *cuts]))
        assert 1 <= epochs - cuts[-1] <= 4
        for name in ("train_loss", "balanced_accuracy"):
            curve = place.client.get_metric_history(member.info.run_id, f"curve/{name}")
            assert [point.step for point in curve] == list(range(epochs))
        assert "learning_curve.png" in place.artifacts(member.info.run_id)
    assert run.data.metrics["epochs_saved"] == 3 * (2 + 2 + 4) - sum(m.data.metrics["epochs_run"] for m in members)
    assert run.data.metrics["epochs_saved"] > 0
    assert run.data.metrics["seconds"] == pytest.approx(sum(member.data.metrics["seconds"] for member in members))


@pytest.mark.parametrize("parameters", [{"loss": "joint_kd"}, {"method": "random", "n_groups": 2}], ids=str)
def test_joint_losses_and_groups_are_cut_in_steps_too(place: Place, parameters: dict[str, object]) -> None:
    run_id = retrain.run(place.config("retrain", cut_steps=2, **parameters))
    ensemble = retrain.load(Store.connect(), run_id)
    flops = place.run(place.run(run_id).data.tags["sensai.upstream.prune"]).data.metrics["flops_total"]
    members = [run for run in place.of("member") if run.data.tags["sensai.split"] == "val"]
    assert sum(run.data.metrics["flops"] for run in members) == flops
    assert {run.data.tags["sensai.cuts"] for run in members} == {"[1]"}
    assert len(ensemble.members) == len(members)


# --------------------------------------------------------------------------------------------------------------- kills

KILLED = {**GRADUAL, "cut_epochs": 6, "epochs": 2}


def kill_within_the_second_step(place: Place) -> dict[Path, int]:
    """Kill a retraining in the first epoch of the step, and return when each checkpoint was written."""
    parameters = tiny("retrain", work_dir=str(place.folder / "work"), **KILLED)
    process = subprocess.Popen(command("retrain", **parameters), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints = place.folder / "work" / "checkpoints"
    try:
        deadline = time.monotonic() + 240
        while not any(path.stem > "000000" for path in checkpoints.glob("*/cut_2/member_*/*.safetensors")):
            assert process.poll() is None, "retrain ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (folder,) = checkpoints.iterdir()
    assert {path.name for path in folder.iterdir()} == {"cut_1", "cut_2"}
    return checkpoints_of(place)


def checkpoints_of(place: Place) -> dict[Path, int]:
    """Return when each checkpoint was written."""
    found = (place.folder / "work" / "checkpoints").glob("*/cut_*/member_*/*.safetensors")
    return {path: path.stat().st_mtime_ns for path in found}


def interrupted_before_the_third(*given: Any, folder: Path, **named: Any) -> list[TrainingHistory]:
    if folder.name == "cut_3":
        raise KeyboardInterrupt
    return retrain_members(*given, folder=folder, **named)


def members_of(run_id: str) -> dict[str, bytes]:
    with Store.connect().downloaded(run_id, "members") as folder:
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.long
def test_a_killed_run_goes_on_in_the_step_where_it_was(pruned: Pruned, monkeypatch: pytest.MonkeyPatch) -> None:
    place = pruned.place
    killed = kill_within_the_second_step(place)
    config = place.config("retrain", **KILLED)
    # Interrupted between two steps: the second is finished, the third has nothing yet.
    with monkeypatch.context() as patch:
        patch.setattr(retrain_execution, "retrain_members", interrupted_before_the_third)
        with pytest.raises(KeyboardInterrupt):
            retrain.run(config)
    interrupted = checkpoints_of(place)
    assert {path.parts[-3] for path in interrupted} == {"cut_1", "cut_2"}
    # What a finished step left is read and not written again.
    finished = {path: written for path, written in killed.items() if "cut_1" in path.parts}
    assert {path.parent.name for path in finished} == {"member_000", "member_001", "member_002"}
    assert finished.items() <= interrupted.items()

    resumed = retrain.run(config)
    assert not list((place.folder / "work" / "checkpoints").iterdir())
    whole = retrain.run(config.model_copy(update={"force": True}))
    assert resumed != whole
    assert members_of(resumed) == members_of(whole)
