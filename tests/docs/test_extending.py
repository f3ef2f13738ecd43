"""The example package, installed like a user would, and the pages that show its code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT, command, tiny

EXTENDING = ROOT / "docs" / "extending"
PACKAGE = EXTENDING / "example_package"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the example package is installed."""
    folder = tmp_path_factory.mktemp("installed")
    source = tmp_path_factory.mktemp("source")
    # setuptools writes into the folder that it builds from.
    subprocess.run(["cp", "-r", f"{PACKAGE}/.", source], check=True)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(folder), str(source)], check=True, capture_output=True)
    return folder


@pytest.mark.processes
def test_the_parts_of_another_package_are_used_by_name(installed: Path, store_uri: str, tmp_path: Path) -> None:
    parameters = {
        **tiny("retrain", method="neighbours", n_groups=2, criterion="most_zeros"),
        **{"loss": "brier", "schedule": "constant", "stop_rules": "steady", "min_gain": 1, "epochs": 5},
    }
    done = subprocess.run(
        command("retrain", **parameters),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (groups,) = (tmp_path / "artifacts").rglob("groups.json")
    assert json.loads(groups.read_text())["groups"] == [[0], [1, 2]]
    (curves,) = (tmp_path / "artifacts").rglob("curves.csv")
    table = pd.read_csv(curves)
    assert set(table["stopped_by"]) == {"steady"}
    assert table.groupby("member").size().tolist() == [3, 3]


@pytest.mark.processes
def test_without_the_package_its_names_are_unknown(store_uri: str, tmp_path: Path) -> None:
    done = subprocess.run(command("prune", criterion="most_zeros"), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "criterion='most_zeros': is no criterion" in done.stderr


@pytest.mark.parametrize(
    ("page", "module"),
    [
        ("criteria.md", "most_zeros.py"),
        ("grouping_methods.md", "neighbours.py"),
        ("losses.md", "brier.py"),
        ("stop_rules.md", "steady.py"),
        ("schedules.md", "constant.py"),
    ],
)
def test_the_pages_show_the_code_of_the_example(page: str, module: str) -> None:
    (shown,) = re.findall(r"```python\n# .*?\n(.*?)```", (EXTENDING / page).read_text(), flags=re.DOTALL)
    code = (PACKAGE / "sensai_example" / module).read_text()
    assert shown == code.partition("\n\n")[2]
