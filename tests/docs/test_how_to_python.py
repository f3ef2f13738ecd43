"""The Python code of the how-to pages, run on a store."""

import re

import pytest

from tests.conftest import ROOT
from tests.helpers.pipeline import FinishedMain


@pytest.mark.parametrize("page", ["asking_the_runs.md", "promoting.md"])
def test_the_code_of_a_page_runs_on_a_store(page: str, finished: FinishedMain) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how_to" / page).read_text(), flags=re.DOTALL)
    assert blocks
    evaluated = finished.upstream("evaluate")
    names = {"run_id": evaluated, "run_a": evaluated, "run_b": evaluated, "retrain_run": finished.upstream("retrain")}
    exec("\n".join(blocks), names)


def test_the_calls_of_the_table_run_on_a_store(finished: FinishedMain) -> None:
    calls = re.findall(r"\| `(runs\..*?)` \|", (ROOT / "docs/how_to/asking_the_runs.md").read_text())
    assert len(calls) > 8
    evaluated = finished.upstream("evaluate")
    for call in calls:
        names = {"run_id": evaluated, "run_a": evaluated, "run_b": finished.upstream("prune")}
        exec(f"from sensai.analysis import runs\nfound = {call}", names)
        assert names["found"] is not None, call
