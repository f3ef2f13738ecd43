"""The command `sensai`, and `python -m sensai`: which entry points there are, and how one is run."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

import sensai
from sensai.__main__ import main
from sensai.config import CONFIGS
from sensai.stages import ENTRY_POINTS, summary
from tests.conftest import Entry, tiny

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def sensai_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The console script in this process."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["sensai", *arguments])
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        return subprocess.CompletedProcess(list(arguments), status, *capsys.readouterr())

    return call


def test_entry_points_are_those_that_have_a_configuration() -> None:
    assert list(ENTRY_POINTS) == list(CONFIGS)


def test_help_lists_the_entry_points_in_the_order_of_the_data_flow(sensai_command: Command) -> None:
    shown = sensai_command("--help")
    assert shown.returncode == 0
    listed = re.findall(r"^  (\w+) {2,}([A-Z].+)$", shown.stdout, re.MULTILINE)
    assert [name for name, _ in listed] == list(CONFIGS)
    assert [line for _, line in listed] == [summary(name) for name in CONFIGS]


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_the_summary_is_the_first_line_of_the_module(name: str) -> None:
    spec = importlib.util.find_spec(f"sensai.stages.{name}")
    assert spec is not None
    assert spec.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text()))
    assert docstring is not None
    assert docstring.splitlines()[0] == f"{name}: {summary(name)}."
    assert len(summary(name)) <= 90


def test_nothing_given_is_answered_with_the_usage(sensai_command: Command) -> None:
    shown = sensai_command()
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr == sensai_command("--help").stdout


def test_version(sensai_command: Command) -> None:
    assert sensai_command("--version").stdout == f"sensai {sensai.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["pruen"], "error: sensai: no entry point 'pruen'; did you mean prune?\n"),
        (["--ratio", "0.1"], "error: sensai: no entry point '--ratio'; allowed are main, baseline, "),
        (["completion", "basch"], "error: sensai completion: no shell 'basch'; did you mean bash?\n"),
        (["completion"], "error: sensai completion: no shell ''; allowed are bash, fish, zsh\n"),
    ],
)
def test_an_unknown_name_is_one_line_with_near_ones(sensai_command: Command, arguments: list[str], line: str) -> None:
    shown = sensai_command(*arguments)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.startswith(line)
    assert shown.stderr.count("\n") == 1


@pytest.mark.processes
def test_the_list_imports_nothing_heavy(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sensai", "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    imported = {line.rsplit("|", 1)[-1].strip() for line in shown.stderr.splitlines() if "|" in line}
    assert "sensai.cli" in imported
    assert not {"torch", "mlflow", "pydantic", "numpy", "argparse"} & imported


@pytest.mark.processes
def test_a_stage_is_the_same_by_the_command_and_by_its_script(launched: Entry, store_uri: str, tmp_path: Path) -> None:
    parameters = tiny("baseline", base_epochs=1)
    given = [str(part) for name, value in parameters.items() for part in (f"--{name}", value)]
    by_name = subprocess.run(
        [sys.executable, "-m", "sensai", "baseline", *given], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    run_line = by_name.stdout.splitlines()[-1]
    # The script is answered from the store.
    assert launched("baseline", **parameters).stdout.splitlines()[-1] == run_line
    run_id = run_line.removeprefix("baseline run: ")
    assert mlflow.MlflowClient(store_uri).get_run(run_id).data.tags["sensai.stage"] == "baseline"


@pytest.mark.processes
def test_bad_input_is_one_line(tmp_path: Path) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "sensai", "prune", "--ratio", "2", "--seed", "x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert re.fullmatch(r"error: prune: .*\n", refused.stderr)
    assert "ratio='2': must be" in refused.stderr
    assert "seed='x': must be" in refused.stderr
    # Not even a store was opened.
    assert list(tmp_path.iterdir()) == []
