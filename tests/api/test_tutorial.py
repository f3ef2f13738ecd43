"""The tutorial of the Python interface runs as it stands."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

TUTORIAL = ROOT / "docs/tutorials/python.ipynb"


@pytest.mark.long
@pytest.mark.processes
def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(TUTORIAL, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert "models:/digits/1" in str(notebook.cells[-2].outputs)


def test_it_stands_there_executed_and_names_no_place_of_a_machine() -> None:
    notebook = nbformat.read(TUTORIAL, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    text = str([cell.outputs for cell in cells])
    assert "base model" in text
    assert not [name for name in ("/tmp", "/home", "/root", "Traceback", "UserWarning") if name in text]
