"""The notebook about runs, executed against a fresh store."""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT
from tests.helpers.pipeline import FinishedMain

GUIDE = ROOT / "docs" / "tutorials" / "runs.ipynb"


def kinds(cell: nbformat.NotebookNode) -> list[list[str]]:
    """Return the formats of what a cell shows, without the warnings of libraries."""
    return [sorted(output["data"]) for output in cell.get("outputs", ()) if "data" in output]


@pytest.mark.processes
def test_the_guide_runs_and_every_question_has_an_answer(
    finished: FinishedMain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", finished.place.uri)
    # Figures of matplotlib stand in the notebook only with its own backend there.
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(GUIDE, as_version=4)
    committed = [kinds(cell) for cell in notebook.cells]
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(GUIDE.parent)}}).execute()
    _, _, *asking = (cell for cell in notebook.cells if cell.cell_type == "code")
    for cell in asking:
        data = [output.get("data", {}) for output in cell.outputs]
        assert any({"text/plain", "image/png"} & each.keys() for each in data), cell.source
    assert [kinds(cell) for cell in notebook.cells] == committed, (
        "the site shows the outputs that are committed: execute it"
    )
    shown = [kind for cell in asking for output in cell.outputs for kind in output.get("data", {})]
    assert shown.count("image/png") == 4
