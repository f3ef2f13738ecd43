"""Reading runs imports no torch, parsing a command line no MLflow either, and a server nothing that trains."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.processes


def modules_after(code: str, folder: Path) -> set[str]:
    """Return the top-level modules that are imported after some code has run in a new process."""
    code += "\nimport sys\nprint('modules:', *{name.partition('.')[0] for name in sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True, env={"PATH": ""}
    )
    return set(result.stdout.rpartition("modules:")[2].split())


def test_analysis_imports_no_torch(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport sensai.analysis.figures.static, sensai.analysis.report"
    )
    code = f"{code}, sensai.analysis.results, sensai.analysis.grouping_results, sensai.analysis.cell_shards"
    modules = modules_after(f"{code}, sensai.analysis.contrasts, sensai.analysis.stop_regret", tmp_path)
    assert {"sensai", "mlflow", "matplotlib", "pandas"} <= modules
    assert not {"torch", "torchvision"} & modules


def test_a_command_line_is_parsed_before_torch_and_mlflow_are_imported(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom sensai import cli\n"
    modules = modules_after(f"{code}assert cli.parse('main', ['--ratio', '0.25']).ratio == 0.25", tmp_path)
    assert {"sensai", "pydantic"} <= modules
    assert not {"torch", "torchvision", "mlflow", "pandas", "matplotlib"} & modules


def test_a_server_starts_without_what_trains_and_draws(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport sensai.stages.serve, sensai.serving.shards"
    modules = modules_after(code, tmp_path)
    assert {"sensai", "mlflow", "ray"} <= modules
    assert not {"torch", "sklearn", "matplotlib"} & modules
