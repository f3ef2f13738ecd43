"""The last resort: an unexpected exception gives one line, a file, an artifact, a FAILED run, and status 1."""

import subprocess
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow.entities import Run

from tests.conftest import Entry, tiny

LONG = "x" * 100_000


def error_line(result: "subprocess.CompletedProcess[str]") -> str:
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.stderr.rstrip().endswith(line), "something follows the line"
    return line


def runs_of(store_uri: str) -> list[Run]:
    client = mlflow.MlflowClient(store_uri)
    return list(client.search_runs([each.experiment_id for each in client.search_experiments()]))


def traceback_of(store_uri: str, run: Run) -> str:
    path = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="traceback.txt")
    return Path(path).read_text()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install an optimiser that fails, which nothing expects."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"boom {LONG}")

    monkeypatch.setattr(torch.optim.SGD, "step", fail)


def test_it_is_told_in_one_line_and_kept(launched: Entry, store_uri: str, broken: None) -> None:
    result = launched("baseline", **tiny("baseline"))
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    line = error_line(result)
    assert line.startswith("error: baseline: unexpected RuntimeError: boom xxx")
    file = Path(line.rpartition("traceback: ")[2])
    assert file.parent == Path.cwd() / ".sensai" / "tracebacks"
    assert "in fail" in file.read_text()
    assert len(line) - len(str(file)) < 300

    (run,) = runs_of(store_uri)
    assert run.info.status == "FAILED"
    assert run.data.tags["sensai.failure"].startswith("RuntimeError: boom xxx")
    assert len(run.data.tags["sensai.failure"]) < 250
    assert traceback_of(store_uri, run) == file.read_text()


def test_traceback_prints_it_too(launched: Entry, store_uri: str, broken: None) -> None:
    result = launched("baseline", **tiny("baseline", traceback=True))
    assert result.returncode == 1
    assert "in fail" in result.stderr
    assert error_line(result)


@pytest.mark.parametrize("asked", [False, True])
def test_a_wrong_parameter_has_a_traceback_where_one_is_asked_for(launched: Entry, asked: bool) -> None:
    # `mlflow run` passes every parameter, with its default.
    result = launched("prune", traceback=str(asked).lower(), no_such=1)
    assert result.returncode == 2
    assert ("Traceback" in result.stderr) == asked
    assert error_line(result).startswith("error: prune: 'no_such' is no parameter of prune")


def test_it_is_the_artifact_of_the_run_that_was_started(launched: Entry, store_uri: str, broken: None) -> None:
    assert launched("main", **tiny("main")).returncode == 1
    runs = runs_of(store_uri)
    assert {run.info.status for run in runs} == {"FAILED"}
    (main,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(runs) == 2
    assert "in fail" in traceback_of(store_uri, main)


def test_a_working_folder_that_takes_no_file(launched: Entry, store_uri: str, broken: None, tmp_path: Path) -> None:
    work = tmp_path / "work"
    assert launched("baseline", **tiny("baseline", work_dir=work)).returncode == 1
    for file in (work / "tracebacks").iterdir():
        file.unlink()
    (work / "tracebacks").rmdir()
    (work / "tracebacks").write_text("a file")
    line = error_line(launched("baseline", **tiny("baseline", work_dir=work)))
    assert "in fail" in Path(line.rpartition("traceback: ")[2]).read_text()


def test_a_store_that_is_gone_hides_nothing(
    launched: Entry, store_uri: str, broken: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        (tmp_path / "mlflow.db").write_text("no database any more, of which a page is to be read" * 1000)
        raise RuntimeError("boom")

    monkeypatch.setattr(torch.optim.SGD, "step", fail)
    result = launched("baseline", **tiny("baseline"))
    assert result.returncode == 1
    assert error_line(result).startswith("error: baseline: unexpected RuntimeError: boom; traceback: ")
    assert "Traceback" not in result.stderr


def test_a_huge_value_is_cut(launched: Entry) -> None:
    for parameters in ({"arch": LONG}, {"ratio": LONG}, {"arch_args": "[" + LONG}, {"dataset": f"{LONG}.py:make"}):
        result = launched("prune", **parameters)
        assert result.returncode == 2
        assert len(error_line(result)) < 2100


_EXITS = """
import sys
import torch

def exits(num_classes):
    sys.exit(0)

class Exits(torch.nn.Module):
    def __init__(self, num_classes):
        super().__init__()
    def forward(self, images):
        sys.exit(0)

def data(data_dir):
    sys.exit(0)
"""


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"arch": "mine.py:exits"}, "arch='mine.py:exits': the function failed"),
        ({"arch": "mine.py:Exits"}, "arch='mine.py:Exits': takes no images"),
        ({"dataset": "mine.py:data"}, "dataset='mine.py:data': the function failed"),
        ({"arch": "ends.py:make"}, "arch='ends.py:make': reading 'ends.py' failed"),
    ],
)
def test_code_of_the_users_that_ends_the_program(
    launched: Entry, store_uri: str, tmp_path: Path, parameters: dict[str, str], said: str
) -> None:
    (tmp_path / "mine.py").write_text(_EXITS)
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(0)\n")
    result = launched("baseline", **tiny("baseline", **parameters))
    assert result.returncode == 2
    line = error_line(result)
    assert line.startswith(f"error: baseline: {said}")
    assert "calls sys.exit(0)" in line
    assert {run.info.status for run in runs_of(store_uri)} <= {"FAILED"}


def test_a_library_that_ends_the_program(launched: Entry, store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(*_: object, **__: object) -> None:
        raise SystemExit(0)

    monkeypatch.setattr(torch.optim.SGD, "step", ends)
    result = launched("baseline", **tiny("baseline"))
    assert (result.returncode, "called sys.exit" in error_line(result)) == (1, True)
    assert {run.info.status for run in runs_of(store_uri)} == {"FAILED"}


@pytest.mark.processes
def test_a_package_that_is_broken(entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A folder of the user's that comes first, in which a package of that name lies.
    (tmp_path / "optuna.py").write_text("raise ImportError('libmissing.so: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = entry("tune")
    assert result.returncode == 1
    line = error_line(result)
    assert "libmissing.so" in line
    assert "a package is missing or broken" in line
    assert "Traceback" not in result.stderr
