"""Shared fixtures: an empty tracking store in a folder of its own, and the command line as a user calls it."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from sensai.cli import launch
from sensai.config import CONFIGS
from tests.helpers.postgres import new_database, postgres_server

if TYPE_CHECKING:
    from tests.helpers.pipeline import FinishedMain, Place, Pruned

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"

# A commit of SQLite waits 20 ms and more for the disk, and `main` makes 500. So the folders of tests, and of the processes
# that they start, are in memory if that holds several times the files of a whole run.
MEMORY, BYTES = Path("/dev/shm"), 4 * 2**30
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# Files that run in one process. Two Ray clusters, each a dozen processes that must start within fixed times, would starve
# each other on two cores; `finished_main` takes half a minute in each process that requests it.
TOGETHER = {
    "tests/training/test_ray.py": "ray",
    "tests/serving/test_contract.py": "ray",
    "tests/serving/test_ray_server.py": "ray",
    "tests/analysis/test_collected_answers.py": "main",
    "tests/analysis/test_differences.py": "main",
    "tests/analysis/test_guide.py": "main",
    "tests/analysis/test_report.py": "main",
    "tests/analysis/test_report_in_a_browser.py": "main",
    "tests/analysis/test_results.py": "main",
    "tests/analysis/test_run_study.py": "main",
    "tests/analysis/test_runs.py": "main",
    "tests/docs/test_how_to_python.py": "main",
    "tests/entrypoints/test_start.py": "main",
    "tests/pipeline/test_closing.py": "main",
    "tests/pipeline/test_ui_columns.py": "main",
    "tests/registry/test_versions.py": "main",
    "tests/stages/test_yardsticks.py": "main",
    "tests/docs/test_readme.py": "main",
    "tests/stages/test_main.py": "main",
    "tests/stages/test_predict.py": "main",
    "tests/stages/test_register.py": "main",
    "tests/stages/test_shared_classes.py": "main",
    "tests/tracking/test_names.py": "main",
}

# With these, every stage does its work on tests/helpers/tiny_data.py within a second or two. Two threads that share a core
# with other tests take seven times as long as one.
TINY = {
    "dataset": f"{ROOT}/tests/helpers/tiny_data.py:tiny",
    "base_epochs": 3,
    "epochs": 1,
    "base_batch_size": 32,
    "batch_size": 32,
    "control": False,
    "yardsticks": "none",
    "jobs": 1,
    "threads": 1,
    "precision": "fp32",
    # Tests of runtimes try all of them; exporting takes seconds.
    "runtime": "torch",
}


def tiny(stage: str, **more: object) -> dict[str, object]:
    """Return the parameters of TINY that a stage takes, and others."""
    return {name: value for name, value in TINY.items() if name in CONFIGS[stage].model_fields} | more


class SharedOnce(LoadFileScheduling):
    """Runs files that share expensive fixtures in one process, so that these are made once."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return TOGETHER.get(file, file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    return SharedOnce(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_finish() -> None:
    _keep_what_is_there()


def _keep_what_is_there() -> None:
    """Exclude all imported objects from garbage collection: searching a million objects takes a tenth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Isolate each test from the stores, run tables and modules of others and of the user who runs the tests."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.setenv("SENSAI_CACHE", str(tmp_path / "cache"))
    # Another test may have left runs open in a store that is gone.
    if tracking := sys.modules.get("sensai.tracking.run"):
        monkeypatch.setattr(tracking, "_begun", {})
    monkeypatch.chdir(tmp_path)
    yield
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a migrated, empty SQLite store: making one takes seconds, copying it does not."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store_uri(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the tracking store of a test: SQLite and artifacts below its own folder."""
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("test", artifact_location=(tmp_path / "artifacts").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    return uri


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Yield the URI of an empty database on a PostgreSQL server of this session."""
    with postgres_server() as uri:
        yield uri


@pytest.fixture
def postgres_database(postgres: str) -> Iterator[str]:
    """Yield the URI of an empty database of one test."""
    with new_database(postgres) as uri:
        yield uri


Entry = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    """Return a function that calls an entry point like a user, in the test's own folder: `entry("prune", ratio=0.1)`."""

    def call(stage: str, timeout: float = 300, **parameters: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(stage, **parameters), cwd=tmp_path, capture_output=True, text=True, timeout=timeout, check=False
        )

    return call


@pytest.fixture
def launched(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Entry]:
    """Return `entry` in this process, for calls that fail early: a new process would import for seconds."""
    # Otherwise the next tests would find the settings of the entry point.
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}

    def call(stage: str, **parameters: object) -> subprocess.CompletedProcess[str]:
        arguments = command(stage, **parameters)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            launch(stage, arguments[2:])
        assert gc.isenabled()
        return subprocess.CompletedProcess(arguments, ended.value.code, *capsys.readouterr())

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


def command(stage: str, **parameters: object) -> list[str]:
    """Return the command line of an entry point."""
    arguments = [part for name, value in parameters.items() for part in (f"--{name}", str(value))]
    return [sys.executable, str(ROOT / "entrypoints" / f"{stage}.py"), *arguments]


@pytest.fixture(scope="session")
def finished_main(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> "FinishedMain":
    """Return one `main` on the tiny data, run in process once a session; tests must only read from it."""
    from tests.helpers.pipeline import Place, run_main

    finished = run_main(Place.make(tmp_path_factory.mktemp("finished"), empty_database))
    _keep_what_is_there()
    return finished


@pytest.fixture
def finished(finished_main: "FinishedMain") -> Iterator["FinishedMain"]:
    """Yield `finished_main`, with MLflow set to its store."""
    with finished_main.place.active():
        yield finished_main


@pytest.fixture(scope="session")
def pruned_once(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> "Pruned":
    """A store in which `prune` has run, to be read from only."""
    from tests.helpers.pipeline import Place, run_prune

    return run_prune(Place.make(tmp_path_factory.mktemp("pruned"), empty_database))


@pytest.fixture
def pruned(pruned_once: "Pruned", tmp_path: Path) -> Iterator["Pruned"]:
    """That store as the test's own copy, with MLflow set to it."""
    with pruned_once.place.copy(tmp_path).active() as place:
        yield replace(pruned_once, place=place)
        _assert_names(place)


@pytest.fixture
def place(empty_database: Path, tmp_path: Path) -> Iterator["Place"]:
    """An empty store, with MLflow set to it."""
    from tests.helpers.pipeline import Place

    with Place.make(tmp_path, empty_database).active() as made:
        yield made
        _assert_names(made)


def _assert_names(place: "Place") -> None:
    """Fail where the runs of a test have logged a name that is in no table."""
    from tests.helpers.logged import undeclared

    assert not undeclared(place), "names that are in no table of sensai.tracking"
