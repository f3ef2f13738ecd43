"""The machinery of all stages: upstream runs, cache, the run of `mlflow run`, failures, locks."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from sensai.config import BaselineConfig, RetrainConfig
from sensai.config.arguments import parse
from sensai.errors import InputError
from sensai.pipeline import base_model
from sensai.pipeline.context import Context
from sensai.pipeline.session import Session
from sensai.pipeline.stage import Stage, run_name
from sensai.stages import activations, baseline, group, prune, retrain
from tests.conftest import command, tiny
from tests.helpers.pipeline import Place, Pruned, parent_of, stage_of

UPSTREAM = ("baseline", "activations", "group")
STAGES = {"baseline": baseline.stage, "activations": activations.stage, "group": group.stage, "prune": prune.stage}


def upstream_tags(run: Run) -> dict[str, str]:
    prefix = "sensai.upstream."
    return {key.removeprefix(prefix): value for key, value in run.data.tags.items() if key.startswith(prefix)}


def adopted_run(place: Place, monkeypatch: pytest.MonkeyPatch, **params: str) -> str:
    """Return a run as `mlflow run` opens it, with every parameter already logged on it, shell-quoted."""
    run_id = place.client.create_run(place.experiment).info.run_id
    for name, value in params.items():
        place.client.log_param(run_id, name, value)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    return run_id


class TestFromAnEmptyStore:
    """prune, asked for first."""

    def test_every_stage_before_it_runs_once_nested_below_it(self, pruned: Pruned) -> None:
        runs = {stage_of(run): run for run in pruned.place.runs().values()}
        assert len(pruned.place.runs()) == 4
        assert set(runs) == {*UPSTREAM, "prune"}
        assert runs["prune"].info.run_id == pruned.run_id
        assert parent_of(runs["prune"]) is None
        assert {parent_of(runs[stage]) for stage in UPSTREAM} == {pruned.run_id}
        assert {run.info.status for run in runs.values()} == {"FINISHED"}

    def test_tags_say_what_it_is_and_what_it_stands_on(self, pruned: Pruned) -> None:
        runs = {stage_of(run): run for run in pruned.place.runs().values()}
        ids, session = {stage: run.info.run_id for stage, run in runs.items()}, Session.connect()
        assert upstream_tags(runs["prune"]) == {stage: ids[stage] for stage in UPSTREAM}
        assert upstream_tags(runs["group"]) == {stage: ids[stage] for stage in UPSTREAM[:2]}
        assert upstream_tags(runs["baseline"]) == {}
        digests = set()
        for stage, run in runs.items():
            config = json.loads(run.data.tags["sensai.config"])
            assert config == STAGES[stage].config(**config).model_dump()
            assert config["base_epochs"] == 3
            assert config["force"] is False
            assert run.data.tags["sensai.fingerprint"] == STAGES[stage].fingerprint(pruned.place.config(stage), session)
            assert run.data.tags["sensai.dataset"] == tiny("prune")["dataset"]
            assert run.data.tags["sensai.arch"] == "small_cnn"
            digests.add(run.data.tags["sensai.data_digest"])
        assert len(digests) == 1
        config = json.loads(runs["prune"].data.tags["sensai.config"])
        assert isinstance(config["ratio"], float)
        assert config["n_groups"] is None

    def test_parameters_are_logged_under_their_own_names(self, pruned: Pruned) -> None:
        run = pruned.place.run(pruned.run_id)
        assert set(run.data.params) == prune.stage.config(**tiny("prune")).own_values().keys() > {"ratio", "scope"}
        assert run.data.params["ratio"] == "0.5"
        assert run.data.params["dataset"] == tiny("prune")["dataset"]

    def test_its_config_yaml_makes_it_again(self, pruned: Pruned) -> None:
        file = pruned.place.artifact(pruned.run_id, "config.yaml")
        again = parse("prune", [f"--config={file}", f"--work_dir={pruned.place.folder / 'work'}"])
        assert prune.run(again) == pruned.run_id

    def test_the_name_tells_stage_and_method(self, pruned: Pruned) -> None:
        name = pruned.place.run(pruned.run_id).info.run_name
        assert name == "prune 0.5 small_cnn tiny_data.py:tiny"

    def test_the_name_tells_data_groups_and_loss(self) -> None:
        own = {
            "dataset": "imagefolder",
            "data_dir": "/data/cifar10-part",
            "arch": "resnet20",
            "ratio": 0.3,
            "epochs": 2,
        }
        config = RetrainConfig(**own, method="random", n_groups=3, loss="joint")
        name = run_name(config, retrain.title(config))
        assert name == "retrain 3 random 0.3 2 epochs loss=joint resnet20 cifar10-part"
        control = RetrainConfig(**own, method="random", n_groups=1)
        assert retrain.title(control) == "control 0.3 2 epochs"
        replicas = RetrainConfig(**own, method="replicas", n_groups=3)
        assert retrain.title(replicas) == "3 replicas 0.3 2 epochs"

    def test_the_comparison_of_runs_opens_with_accuracy(self, pruned: Pruned) -> None:
        assert next(iter(pruned.place.run(pruned.run_id).data.metrics)) == "val_accuracy"


class TestCache:
    """What is run again, and what is not."""

    def test_the_second_time_nothing_runs(self, pruned: Pruned) -> None:
        before = pruned.place.runs()
        assert prune.run(pruned.place.config("prune")) == pruned.run_id
        assert group.run(pruned.place.config("group")) == pruned.upstream("group")
        assert pruned.place.new_runs(before) == []

    def test_another_ratio_predicts_sizes_and_prunes_anew_and_nothing_else(self, pruned: Pruned) -> None:
        before = pruned.place.runs()
        run_id = prune.run(pruned.place.config("prune", ratio=0.25))
        assert {stage_of(run) for run in pruned.place.new_runs(before)} == {"group", "prune"}
        new = pruned.place.run(run_id)
        for stage in ("baseline", "activations"):
            assert new.data.tags[f"sensai.upstream.{stage}"] == pruned.upstream(stage)
        kept = new.data.metrics["channels_kept"]
        assert kept == pytest.approx(0.75, abs=0.01)
        assert kept > before[pruned.run_id].data.metrics["channels_kept"]

    def test_another_base_runs_everything_anew(self, pruned: Pruned) -> None:
        before = pruned.place.runs()
        prune.run(pruned.place.config("prune", base_seed=1))
        assert {stage_of(run) for run in pruned.place.new_runs(before)} == {*UPSTREAM, "prune"}

    def test_where_it_runs_makes_no_difference(self, pruned: Pruned, tmp_path: Path) -> None:
        before = pruned.place.runs()
        elsewhere = pruned.place.config("prune", device="cpu", work_dir=str(tmp_path / "elsewhere"), seed=7)
        assert prune.run(elsewhere) == pruned.run_id
        assert pruned.place.new_runs(before) == []

    def test_force_redoes_that_stage_only(self, pruned: Pruned) -> None:
        before = pruned.place.runs()
        again = prune.run(pruned.place.config("prune", force=True))
        (new,) = pruned.place.new_runs(before)
        assert new.info.run_id == again != pruned.run_id
        assert upstream_tags(new) == upstream_tags(before[pruned.run_id])
        assert new.data.tags["sensai.fingerprint"] == before[pruned.run_id].data.tags["sensai.fingerprint"]
        # From now on the newest answers.
        assert prune.run(pruned.place.config("prune")) == again

    def test_a_session_loads_data_and_base_model_once(self, pruned: Pruned) -> None:
        session, run_id, device = Session.connect(), pruned.upstream("baseline"), torch.device("cpu")
        labelled = session.labelled({"ratio": "0.5"})
        assert session.base_model(run_id, device) is labelled.base_model(run_id, device)
        data = session.dataset(pruned.place.config("baseline"))
        assert labelled.dataset(pruned.place.config("retrain", ratio=0.25)) is data
        assert session.dataset(pruned.place.config("retrain", split_seed=1)) is not data

    def test_on_a_cache_hit_no_image_is_read(self, pruned: Pruned, monkeypatch: pytest.MonkeyPatch) -> None:
        def read(*_: object) -> None:
            raise AssertionError("a cache hit has read images or weights")

        # The first process of a working folder decodes the images.
        Session.connect().dataset(pruned.place.config("prune"))
        monkeypatch.setattr(np.memmap, "__getitem__", read)
        monkeypatch.setattr(base_model, "load_base_model", read)
        assert prune.run(pruned.place.config("prune")) == pruned.run_id

    def test_a_deleted_run_is_done_again(self, pruned: Pruned) -> None:
        pruned.place.client.delete_run(pruned.upstream("group"))
        new = group.run(pruned.place.config("group"))
        assert new != pruned.upstream("group")
        assert pruned.place.run(new).data.tags["sensai.upstream.activations"] == pruned.upstream("activations")


class TestRunOfMlflow:
    """The run that `mlflow run` opens is the stage run."""

    def test_it_becomes_the_run_of_the_stage(self, pruned: Pruned, monkeypatch: pytest.MonkeyPatch) -> None:
        before = pruned.place.runs()
        opened = adopted_run(pruned.place, monkeypatch, ratio="'0.25'", policy="ratio")
        assert prune.run(pruned.place.config("prune", ratio=0.25)) == opened
        # The sizes that groups are predicted to have depend on the ratio too.
        (group_run,) = (run for run in pruned.place.new_runs(before) if run.info.run_id != opened)
        assert (stage_of(group_run), parent_of(group_run)) == ("group", opened)
        run = pruned.place.run(opened)
        assert run.info.status == "FINISHED"
        # What MLflow has logged stays; the rest of the stage's own parameters is there too.
        assert (run.data.params["ratio"], run.data.params["policy"]) == ("'0.25'", "ratio")
        assert set(run.data.params) == pruned.place.config("prune", ratio=0.25).own_values().keys()
        assert json.loads(run.data.tags["sensai.config"])["ratio"] == 0.25
        assert stage_of(run) == "prune"
        assert run.info.run_name.startswith("prune 0.25 ")
        assert "sensai.reused" not in run.data.tags
        assert "plans.json" in pruned.place.artifacts(opened)

    def test_missing_stages_are_nested_below_it(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = adopted_run(place, monkeypatch)
        assert activations.run(place.config("activations")) == opened
        (base,) = place.of("baseline")
        assert parent_of(base) == opened
        assert base.data.params["base_epochs"] == "3"
        assert place.run(opened).data.params["zero_threshold"] == "0.005"

    def test_on_a_cache_hit_it_points_to_the_run_that_answers(
        self, pruned: Pruned, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = pruned.place.runs()
        opened = adopted_run(pruned.place, monkeypatch, ratio="'0.5'")
        assert prune.run(pruned.place.config("prune")) == pruned.run_id
        (run,) = pruned.place.new_runs(before)
        assert run.info.run_id == opened
        assert run.info.status == "FINISHED"
        assert run.data.tags["sensai.reused"] == pruned.run_id
        assert run.data.metrics == before[pruned.run_id].data.metrics
        assert run.data.metrics["members"] == 3
        assert not {"sensai.stage", "sensai.fingerprint"} & set(run.data.tags)
        # It is no stage run, so it must never answer.
        assert prune.run(pruned.place.config("prune")) == pruned.run_id

    def test_what_goes_wrong_is_its_failure(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = adopted_run(place, monkeypatch)
        with pytest.raises(InputError, match=r"checkpoint='nowhere\.pth'"):
            baseline.run(place.config("baseline", checkpoint="nowhere.pth"))
        run = place.run(opened)
        assert run.info.status == "FAILED"
        assert "nowhere.pth" in run.data.tags["sensai.failure"]
        assert len(place.runs()) == 1


def recording(execute: Callable[[BaselineConfig, Context], None]) -> Stage[BaselineConfig]:
    """Return a stage with baseline's parameters that does something else."""
    return Stage(version=1, config=BaselineConfig, previous=None, execute=execute)


class TestFailure:
    """A stage that does not come to its end."""

    @pytest.mark.parametrize(
        ("error", "status", "reason"),
        [
            (RuntimeError("no room"), "FAILED", "RuntimeError: no room"),
            (InputError("lr=9: too large"), "FAILED", "InputError: lr=9: too large"),
            (KeyboardInterrupt(), "KILLED", "interrupted"),
        ],
    )
    def test_it_is_closed_with_the_reason_and_never_reused(
        self, place: Place, error: BaseException, status: str, reason: str
    ) -> None:
        def fail(config: BaselineConfig, context: Context) -> None:
            context.run.log_metrics({"val_accuracy": 0.1})
            raise error

        with pytest.raises(type(error)):
            recording(fail).run(place.config("baseline"))
        (run,) = place.of("baseline")
        assert run.info.status == status
        assert run.data.tags["sensai.failure"] == reason
        done = recording(lambda config, context: None).run(place.config("baseline"))
        assert done != run.info.run_id
        assert place.run(done).info.status == "FINISHED"

    def test_an_interrupted_upstream_stage_ends_the_whole(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(config: BaselineConfig, context: Context) -> None:
            raise KeyboardInterrupt

        stage = replace(activations.stage, previous=replace(baseline.stage, execute=interrupted))
        with pytest.raises(KeyboardInterrupt):
            stage.run(place.config("activations"))
        assert {run.info.status for run in place.runs().values()} == {"KILLED"}
        assert len(place.runs()) == 2

    def test_its_checkpoints_are_what_the_next_goes_on_from(self, place: Place) -> None:
        found: list[bool] = []
        fails = [True]

        def execute(config: BaselineConfig, context: Context) -> None:
            mark = context.checkpoints / "mark"
            found.append(mark.exists())
            context.checkpoints.mkdir(parents=True, exist_ok=True)
            mark.touch()
            if fails[0]:
                raise RuntimeError("broken off")

        stage, config = recording(execute), place.config("baseline")
        folder = Path(config.work_dir) / "checkpoints"

        def attempt(**changes: object) -> None:
            with pytest.raises(RuntimeError, match="broken off"):
                stage.run(config.model_copy(update=changes))

        attempt()
        assert found == [False]
        attempt()
        assert found == [False, True]
        attempt(base_lr=0.2)
        assert found[2:] == [False], "another configuration's checkpoints were taken"
        attempt(force=True)
        assert found[3:] == [False], "force went on from a checkpoint"
        assert len(list(folder.iterdir())) == 2
        fails[0] = False
        stage.run(config)
        assert found[4:] == [True]
        assert [path.name for path in folder.iterdir()] == [
            stage.fingerprint(config.model_copy(update={"base_lr": 0.2}), Session.connect())
        ]

    def test_they_are_there_until_the_run_is_finished(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        found: list[bool] = []

        def execute(config: BaselineConfig, context: Context) -> None:
            found.append((context.checkpoints / "mark").exists())
            context.checkpoints.mkdir(parents=True, exist_ok=True)
            (context.checkpoints / "mark").touch()

        stage, config = recording(execute), place.config("baseline")

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, "set_terminated", interrupted)
            with pytest.raises(KeyboardInterrupt):
                stage.run(config)
        stage.run(config)
        assert found == [False, True]
        assert list((Path(config.work_dir) / "checkpoints").iterdir()) == []

    def test_a_raised_version_makes_old_results_stale(self, place: Place) -> None:
        stage, config = recording(lambda config, context: None), place.config("baseline")
        first = stage.run(config)
        assert stage.run(config) == first
        assert replace(stage, version=2).run(config) != first

    def test_a_working_folder_that_cannot_be_made_is_the_users_to_mend(self, place: Place, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="work_dir="):
            baseline.run(place.config("baseline", work_dir=str(tmp_path / "file")))


class TestTwoProcesses:
    """Two that want one fingerprint at the same time: a process of its own, and this one."""

    @pytest.mark.processes
    def test_one_computes_and_both_give_its_run(self, place: Place) -> None:
        config = place.config("baseline")
        work_dir = Path(config.work_dir)
        lock = work_dir / "locks" / f"{baseline.stage.fingerprint(config, Session.connect())}.lock"
        lock.parent.mkdir(parents=True)
        # The other process decodes the data again right before it looks for a finished run, which is how we know.
        shutil.rmtree(work_dir / "data")
        arguments = command("baseline", **tiny("baseline", work_dir=work_dir))
        there = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            with ThreadPoolExecutor() as pool:
                # Held until both have looked for a finished run and found none.
                with FileLock(lock):
                    deadline = time.monotonic() + 120
                    while not list(work_dir.glob("data/*/manifest.json")):
                        assert there.poll() is None, there.communicate()
                        assert time.monotonic() < deadline
                        time.sleep(0.1)
                    here = pool.submit(baseline.run, config)
                    time.sleep(0.5)
                    assert there.poll() is None, there.communicate()
                    assert not here.done(), here.result()
                output, errors = there.communicate(timeout=120)
        finally:
            there.kill()
            there.wait()
        assert there.returncode == 0, errors
        (run,) = place.of("baseline")
        assert {output.strip().splitlines()[-1], f"baseline run: {here.result()}"} == {
            f"baseline run: {run.info.run_id}"
        }
        assert run.info.status == "FINISHED"
        assert len(place.client.get_metric_history(run.info.run_id, "curve/train_loss")) == 3
        for other in place.runs().values():
            assert other.info.status == "FINISHED"
            assert other.data.tags.get("sensai.reused", run.info.run_id) == run.info.run_id
