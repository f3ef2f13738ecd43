"""The contract of runs and their store, the same over SQLite, PostgreSQL and a real `mlflow server`."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import mlflow
import pandas as pd
import psutil
import pytest
from matplotlib.figure import Figure
from mlflow.entities import Run as StoredRun
from mlflow.entities import RunStatus

from sensai.errors import EndedEarlyError, InputError
from sensai.signals import Terminated
from sensai.tracking import Run, Store, buffer, close_begun, log_on_top
from tests.helpers.postgres import new_database
from tests.helpers.server import mlflow_server

pytestmark = pytest.mark.processes


@pytest.fixture(
    scope="module",
    params=["sqlite", *(pytest.param(kind, marks=pytest.mark.processes) for kind in ("postgres", "server"))],
)
def backend(
    request: pytest.FixtureRequest, empty_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Yield the URI of a store of each kind."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "postgres":
        # It is requested only where needed: it takes seconds, and is skipped without PostgreSQL.
        with new_database(request.getfixturevalue("postgres")) as uri:
            yield uri
        return
    shutil.copy(empty_database, folder / "mlflow.db")
    if request.param == "sqlite":
        yield f"sqlite:///{folder}/mlflow.db"
    else:
        with mlflow_server(folder) as uri:
            yield uri


@pytest.fixture
def store(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return the store, with an experiment for the test."""
    mlflow.set_tracking_uri(backend)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", _experiment(backend, tmp_path, "own"))
    return Store.connect()


def _experiment(backend: str, folder: Path, name: str) -> str:
    # The server stores artifacts itself; with only a database they would lie in the working folder.
    location = None if backend.startswith("http") else (folder / "artifacts").as_uri()
    return mlflow.MlflowClient(backend).create_experiment(f"{folder.name} {name}", artifact_location=location)


def stored(store: Store, run: Run | str) -> StoredRun:
    return store.client.get_run(run if isinstance(run, str) else run.id)


def finished(store: Store, name: str, **tags: str) -> str:
    run = store.create(name, None, {f"sensai.{key}": value for key, value in tags.items()})
    with run.closing():
        pass
    return run.id


class TestRun:
    """One run that is written."""

    def test_a_new_run_is_running_named_nested_and_says_whose_it_is(self, store: Store) -> None:
        parent = store.create("the parent", None)
        child = store.create("the child", parent.id, {"sensai.stage": "member"})
        assert "mlflow.parentRunId" not in stored(store, parent).data.tags
        run = stored(store, child)
        assert run.info.run_name == "the child"
        assert run.info.status == "RUNNING"
        assert run.info.experiment_id == store.experiment_id
        assert run.data.tags["mlflow.parentRunId"] == parent.id
        assert run.data.tags["sensai.stage"] == "member"
        owner = json.loads(run.data.tags["sensai.process"])
        assert owner == {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": psutil.Process().create_time(),
        }

    def test_a_run_that_mlflow_opened_is_adopted_once_with_its_parameters(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened = store.client.create_run(store.experiment_id, run_name="by mlflow run").info.run_id
        store.client.log_param(opened, "ratio", "'0.5'")
        monkeypatch.setenv("MLFLOW_RUN_ID", opened)
        run = store.adopt()
        assert run is not None
        assert run.id == opened
        assert store.adopt() is None
        assert "MLFLOW_RUN_ID" not in os.environ
        run.log_params({"ratio": 0.25, "seed": 1})
        with run.closing():
            pass
        data = stored(store, opened).data
        assert data.params == {"ratio": "'0.5'", "seed": "1"}
        assert json.loads(data.tags["sensai.process"])["pid"] == os.getpid()

    def test_without_mlflow_run_there_is_nothing_to_adopt(self, store: Store) -> None:
        assert store.adopt() is None

    def test_params(self, store: Store) -> None:
        run = store.create("run", None)
        many = {f"parameter_{number}": number for number in range(60)}
        run.log_params({"ratio": 0.5, "force": False, "checkpoint": "", "long": "x" * 10_000, **many})
        run.flush()
        params = stored(store, run).data.params
        assert {name: params[name] for name in ("ratio", "force", "checkpoint")} == {
            "ratio": "0.5",
            "force": "False",
            "checkpoint": "",
        }
        assert {name: int(params[name]) for name in many} == many
        assert set(params["long"]) == {"x"}
        assert len(params["long"]) == 6000

    def test_the_last_value_of_a_metric_counts(self, store: Store) -> None:
        run = store.create("run", None)
        run.log_metrics({"accuracy": 0.5, "flops": 3_000_000})
        run.log_metrics({"accuracy": 0.75}, step=1)
        run.flush()
        assert stored(store, run).data.metrics == {"accuracy": 0.75, "flops": 3_000_000.0}
        assert store.metrics_of(run.id) == {"accuracy": 0.75, "flops": 3_000_000.0}
        history = store.client.get_metric_history(run.id, "accuracy")
        assert [(point.step, point.value) for point in history] == [(0, 0.5), (1, 0.75)]

    def test_tags_and_name(self, store: Store) -> None:
        run = store.create("first name", None)
        run.set_tags({"sensai.stage": "prune", "sensai.arch": "small_cnn"})
        run.set_name("second name")
        run.flush()
        tags = store.tags_of(run.id)
        assert (tags["sensai.stage"], tags["sensai.arch"]) == ("prune", "small_cnn")
        assert stored(store, run).info.run_name == "second name"

    @pytest.mark.parametrize("error", [None, KeyboardInterrupt()])
    def test_every_epoch_is_there_when_the_run_is_closed(self, store: Store, error: BaseException | None) -> None:
        run, epochs = store.create("run", None), 60
        with suppress(KeyboardInterrupt), run.closing():
            for epoch in range(epochs):
                run.log_metrics({"curve/loss": 1 / (epoch + 1), "curve/accuracy": epoch / epochs}, epoch)
            if error is not None:
                raise error
        losses = store.client.get_metric_history(run.id, "curve/loss")
        assert sorted((point.step, point.value) for point in losses) == [
            (epoch, 1 / (epoch + 1)) for epoch in range(epochs)
        ]
        accuracies = store.client.get_metric_history(run.id, "curve/accuracy")
        assert sorted(point.step for point in accuracies) == list(range(epochs))

    def test_all_that_was_logged_is_there_when_a_run_has_failed(self, store: Store) -> None:
        run = store.create("run", None)
        figure = Figure()
        figure.subplots().plot([1, 2])
        run.log_params({"ratio": 0.5})
        run.set_tags({"sensai.stage": "prune"})
        run.log_metrics({"accuracy": 0.5})
        run.log_json([1], "deep/plans.json")
        run.log_figure(figure, "widths.png")
        with pytest.raises(RuntimeError), run.closing():
            raise RuntimeError
        data = stored(store, run).data
        assert (data.params, data.metrics) == ({"ratio": "0.5"}, {"accuracy": 0.5})
        assert data.tags["sensai.stage"] == "prune"
        assert {each.path for each in store.client.list_artifacts(run.id)} == {"deep", "widths.png"}
        with store.downloaded(run.id, "deep/plans.json") as file:
            assert json.loads(file.read_text()) == [1]

    def test_more_than_one_request_holds_is_sent_in_several(self, store: Store) -> None:
        run = store.create("run", None)
        run.log_params({f"parameter_{number}": number for number in range(250)})
        run.set_tags({f"tag_{number}": str(number) for number in range(250)})
        for step in range(3):
            run.log_metrics({f"metric_{number}": number for number in range(900)}, step)
        run.flush()
        data = stored(store, run).data
        assert {len(data.params), sum(name.startswith("tag_") for name in data.tags)} == {250}
        assert len(data.metrics) == 900
        assert [point.step for point in store.client.get_metric_history(run.id, "metric_899")] == [0, 1, 2]

    def test_what_a_busy_run_has_logged_is_sent_meanwhile(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(buffer, "_FLUSHER", buffer._Flusher(0.05))
        run = store.create("run", None)
        for epoch in range(2):
            run.log_metrics({"curve/loss": 0.5}, epoch)
            deadline = time.monotonic() + 60
            while len(store.client.get_metric_history(run.id, "curve/loss")) <= epoch:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def test_what_was_on_its_way_when_somebody_interrupted_is_sent_at_the_end(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = store.create("run", None)

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        run.log_metrics({"accuracy": 0.5})
        run.log_text("text", "file.txt")
        with monkeypatch.context() as patch:
            patch.setattr(mlflow.MlflowClient, "log_batch", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run.flush()
        with pytest.raises(KeyboardInterrupt), run.closing():
            raise KeyboardInterrupt
        assert stored(store, run).data.metrics == {"accuracy": 0.5}
        assert [each.path for each in store.client.list_artifacts(run.id)] == ["file.txt"]

    def test_many_runs_end_an_epoch_at_once_and_one_thread_writes_it(self, store: Store) -> None:
        """A database has few connections, of which each run would else ask for one."""
        runs, before = [store.create(f"member {number}", None) for number in range(20)], threading.active_count()
        with ExitStack() as closing:
            for run in runs:
                closing.enter_context(run.closing())
            for run in runs:
                run.log_metrics({"curve/loss": 0.5}, 0)
            assert threading.active_count() <= before + 1
        for run in runs:
            assert [point.value for point in store.client.get_metric_history(run.id, "curve/loss")] == [0.5]

    def test_an_epoch_that_cannot_be_stored_fails_the_run(self, store: Store) -> None:
        run = store.create("run", None)
        # MLflow refuses this name.
        with pytest.raises(mlflow.MlflowException), run.closing():
            run.log_metrics({"no/../name": 1.0}, 0)
        assert stored(store, run).info.status == "FAILED"

    def test_artifacts_come_back_as_they_were(self, store: Store, tmp_path: Path) -> None:
        run = store.create("run", None)
        frame = pd.DataFrame({"classes": ["a,b", 'c"d', "é"], "flops": [1, 2, 3], "accuracy": [0.1, 1 / 3, None]})
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "weights.bin").write_bytes(bytes(range(256)))
        (tmp_path / "members" / "deep").mkdir(parents=True)
        (tmp_path / "members" / "deep" / "one.txt").write_text("one")
        figure = Figure()
        figure.subplots().plot([1, 2])
        run.log_json({"groups": [[0, 2], [1]]}, "groups.json")
        run.log_frame(frame, "table.csv")
        run.log_text("<html>ü</html>", "report.html")
        run.log_figure(figure, "figure.png")
        run.log_folder(tmp_path / "files")
        run.log_folder(tmp_path / "members", "model")
        run.flush()
        with store.downloaded(run.id, "groups.json") as file:
            assert json.loads(file.read_text()) == {"groups": [[0, 2], [1]]}
        with store.downloaded(run.id, "table.csv") as file:
            pd.testing.assert_frame_equal(pd.read_csv(file), frame)
        with store.downloaded(run.id, "report.html") as file:
            assert file.read_text(encoding="utf-8") == "<html>ü</html>"
        with store.downloaded(run.id, "figure.png") as file:
            assert file.read_bytes().startswith(b"\x89PNG")
        with store.downloaded(run.id, "weights.bin") as file:
            assert file.read_bytes() == bytes(range(256))
        with store.downloaded(run.id, "model") as folder:
            assert (folder / "deep" / "one.txt").read_text() == "one"

    def test_an_artifact_that_is_gone_is_said(self, store: Store) -> None:
        run = store.create("run", None)
        with (
            pytest.raises(InputError, match=rf"run {run.id} has no artifact 'plans.json' any more .*force=true"),
            store.downloaded(run.id, "plans.json"),
        ):
            pass

    def test_a_run_that_ends_well_is_finished(self, store: Store) -> None:
        run = store.create("run", None)
        with run.closing() as given:
            assert given is run
            assert stored(store, run).info.status == "RUNNING"
        ended = stored(store, run)
        assert ended.info.status == "FINISHED"
        assert ended.info.start_time <= ended.info.end_time <= time.time() * 1000
        assert "sensai.failure" not in ended.data.tags

    def test_a_run_that_raises_has_failed_and_says_why(self, store: Store) -> None:
        run = store.create("run", None)
        with pytest.raises(ValueError, match="the reason"), run.closing():
            raise ValueError("the reason" + "x" * 20_000)
        ended = stored(store, run)
        assert ended.info.status == "FAILED"
        assert ended.info.end_time is not None
        assert ended.data.tags["sensai.failure"].startswith("ValueError: the reasonxxx")

    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), Terminated(143)])
    def test_a_run_that_is_interrupted_is_killed(self, store: Store, interrupt: BaseException) -> None:
        run = store.create("run", None)
        with pytest.raises(type(interrupt)), run.closing():
            raise interrupt
        ended = stored(store, run)
        assert ended.info.status == "KILLED"
        assert ended.data.tags["sensai.failure"] == "interrupted"

    def test_a_run_in_which_something_calls_sys_exit_has_failed(self, store: Store) -> None:
        run = store.create("run", None)
        with pytest.raises(SystemExit), run.closing():
            sys.exit(0)
        ended = stored(store, run)
        assert (ended.info.status, ended.data.tags["sensai.failure"]) == ("FAILED", "SystemExit: 0")

    def test_runs_that_are_left_open_are_closed_with_the_process(self, store: Store) -> None:
        """A signal may come before their block begins."""
        top, nested, elsewhere = (store.create(name, None) for name in ("top", "nested", "elsewhere"))
        with elsewhere.closing():
            pass
        ended_by_a_worker = store.create("worker", None)
        store.client.set_terminated(ended_by_a_worker.id)
        close_begun(Terminated(143))
        assert [stored(store, run).info.status for run in (top, nested, elsewhere, ended_by_a_worker)] == [
            "KILLED",
            "KILLED",
            "FINISHED",
            "FINISHED",
        ]
        log_on_top("the traceback", "traceback.txt")
        with store.downloaded(top.id, "traceback.txt") as file:
            assert file.read_text() == "the traceback"

    def test_a_run_that_is_given_up_is_killed_and_says_why(self, store: Store) -> None:
        run = store.create("run", None)
        with pytest.raises(EndedEarlyError), run.closing():
            raise EndedEarlyError("others are better")
        ended = stored(store, run)
        assert (ended.info.status, ended.data.tags["sensai.failure"]) == ("KILLED", "others are better")


class TestStore:
    """How runs are found again."""

    def test_find_gives_the_latest_finished_run_of_stage_and_fingerprint_in_any_experiment(
        self, store: Store, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        print_ = tmp_path.name  # a fingerprint that no other test has
        wanted = {"stage": "prune", "fingerprint": print_}
        assert store.find("prune", print_) is None
        store.create("runs still", None, {"sensai.stage": "prune", "sensai.fingerprint": print_})
        failed = store.create("failed", None, {"sensai.stage": "prune", "sensai.fingerprint": print_})
        with pytest.raises(RuntimeError), failed.closing():
            raise RuntimeError
        finished(store, "another stage", stage="group", fingerprint=print_)
        finished(store, "another fingerprint", stage="prune", fingerprint=print_ + "0")
        assert store.find("prune", print_) is None

        first = finished(store, "first", **wanted)
        found = store.find("prune", print_)
        assert found is not None
        assert found.info.run_id == first
        time.sleep(0.01)  # start times are in milliseconds
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", _experiment(backend, tmp_path, "other"))
        second = finished(Store.connect(), "second, elsewhere", **wanted)
        found = store.find("prune", print_)
        assert found is not None
        assert found.info.run_id == second
        store.client.delete_run(second)
        found = store.find("prune", print_)
        assert found is not None
        assert found.info.run_id == first

    def test_member_runs_are_those_of_one_retraining(self, store: Store) -> None:
        retrain, other = (finished(store, name, stage="retrain") for name in ("retrain", "other"))
        expected = {}
        for number in range(3):
            tags = {"stage": "member", "member": str(number)}
            expected[number] = finished(store, "member", **tags, split="val", **{"upstream.retrain": retrain})
            finished(store, "member", **tags, split="val", **{"upstream.retrain": other})
            finished(store, "member", **tags, split="test", **{"upstream.retrain": retrain})
        assert store.member_runs(retrain) == expected

    def test_finished_run_by_id_or_by_the_run_that_it_answered(self, store: Store) -> None:
        run = finished(store, "prune", stage="prune")
        reused = finished(store, "asked again", reused=run)
        assert store.finished_run(run, ["prune"]).info.run_id == run
        assert store.finished_run(reused, ["prune"]).info.run_id == run

    def test_a_run_that_cannot_be_stood_on_is_refused(self, store: Store) -> None:
        unknown = "0" * 32
        with pytest.raises(InputError, match=f"from_run='{unknown}': there is no such run"):
            store.finished_run(unknown, ["prune"])
        with pytest.raises(InputError, match="from_run='no id': there is no such run"):
            store.finished_run("no id", ["prune"])
        group = finished(store, "group", stage="group")
        with pytest.raises(InputError, match=f"from_run='{group}': must be a run of prune, but it is one of group"):
            store.finished_run(group, ["prune"])
        foreign = finished(store, "foreign")
        with pytest.raises(InputError, match="must be a run of prune, but it is one of no stage"):
            store.finished_run(foreign, ["prune"])
        running = store.create("prune", None, {"sensai.stage": "prune"})
        with pytest.raises(InputError, match=f"from_run='{running.id}': must have finished, but it is RUNNING"):
            store.finished_run(running.id, ["prune"])
        with pytest.raises(RuntimeError), running.closing():
            raise RuntimeError
        with pytest.raises(InputError, match="must have finished, but it is FAILED"):
            store.finished_run(running.id, ["prune"])

    def test_labels_stand_on_every_new_run(self, store: Store) -> None:
        labelled = store.labelled({"ratio": "0.5", "sensai.stage": "label"}).labelled({"sensai.study": "mine"})
        # Labels do not change equality, so that caches by store are shared.
        assert labelled == store
        assert hash(labelled) == hash(store)
        run = stored(store, labelled.create("run", None, {"sensai.stage": "prune"}))
        assert {name: run.data.tags[name] for name in ("ratio", "sensai.study", "sensai.stage")} == {
            "ratio": "0.5",
            "sensai.study": "mine",
            "sensai.stage": "prune",
        }
        assert "ratio" not in stored(store, store.create("other", None)).data.tags

    def test_what_a_lost_process_left_open_is_closed(self, store: Store) -> None:
        trial = store.create("trial", None)
        ended, member = store.create("stage", trial.id), store.create("member", trial.id)
        with ended.closing():
            pass
        other = store.create("another", None)
        store.close_lost(trial.id, "its worker is gone")
        for run in (trial, member):
            assert stored(store, run).info.status == "KILLED"
            assert stored(store, run).data.tags["sensai.failure"] == "its worker is gone"
        assert stored(store, ended).info.status == "FINISHED"
        assert stored(store, other).info.status == "RUNNING"

    def test_orphans_are_closed_and_nothing_else(self, store: Store) -> None:
        mine = psutil.Process()
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()

        def running(**owner: object) -> str:
            base = {"host": socket.gethostname(), "pid": mine.pid, "started": mine.create_time()}
            return store.create("run", None, {"sensai.process": json.dumps(base | owner)}).id

        orphans = {
            "its process is gone": running(pid=gone.pid, started=time.time()),
            "its pid belongs to a later process": running(started=mine.create_time() - 60),
        }
        living = {
            "this process": running(),
            "of another machine": running(host="elsewhere", pid=gone.pid),
            "not of sensAI": store.client.create_run(store.experiment_id).info.run_id,
        }
        done = finished(store, "done")
        store.client.set_tag(done, "sensai.process", json.dumps({"host": socket.gethostname(), "pid": gone.pid}))
        store.close_orphans()
        for why, run_id in orphans.items():
            run = stored(store, run_id)
            assert run.info.status == "KILLED", why
            assert run.info.end_time is not None
            assert run.data.tags["sensai.failure"] == "its process is gone"
        for why, run_id in living.items():
            assert stored(store, run_id).info.status == "RUNNING", why
            assert "sensai.failure" not in stored(store, run_id).data.tags
            store.client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED))
        assert stored(store, done).info.status == "FINISHED"
