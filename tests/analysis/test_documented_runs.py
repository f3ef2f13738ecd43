"""Every run that a document names is among the collected results."""

import re
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT

RESULTS = ROOT / "analysis/results"
DOCUMENTS = [
    *sorted(path for path in ROOT.glob("*.md") if path.is_file()),
    *sorted(
        path
        for folder in ("docs", "analysis")
        for ending in ("md", "ipynb")
        for path in (ROOT / folder).rglob(f"*.{ending}")
        # The outputs of tutorials are of a store that each reader makes anew.
        if path.parent.name != "tutorials"
    ),
]
# Documents show the first twelve digits of a run id, or all 32. Commits have seven or 40.
RUN_ID = re.compile(r"\b(?=[a-f]*[0-9])(?=[0-9]*[a-f])(?:[0-9a-f]{12}|[0-9a-f]{32})\b")


def collected_ids() -> set[str]:
    """Return every run id in any column of any collected table."""
    found: set[str] = set()
    for path in sorted(each for each in RESULTS.rglob("*") if each.suffix in (".parquet", ".csv")):
        table = pd.read_csv(path, dtype="str") if path.suffix == ".csv" else pd.read_parquet(path).select_dtypes("str")
        for name in table.columns:
            if name == "run_id" or name.endswith("_run"):
                found |= set(table[name].dropna())
    return found


def missing(text: str, collected: set[str]) -> list[str]:
    """Return the run ids of a text that none of the collected ones begins with."""
    known = {run_id[:12] for run_id in collected} | collected
    return [run_id for run_id in RUN_ID.findall(text) if run_id not in known]


@pytest.fixture(scope="module")
def collected() -> set[str]:
    return collected_ids()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_run_id_of_a_document_is_collected(document: Path, collected: set[str]) -> None:
    unknown = missing(document.read_text(encoding="utf-8"), collected)
    assert not unknown, (
        f"{document.relative_to(ROOT)} names runs that are not in analysis/results: {', '.join(unknown)}; "
        "`python -m sensai.analysis.results analysis/results` collects those of MLflow's current store"
    )


def test_run_ids_are_found_and_other_numbers_are_not(collected: set[str]) -> None:
    documented = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
    assert len(set(RUN_ID.findall(documented))) > 40
    known = next(iter(sorted(collected)))
    others = f"commits a4217fe and {'ab1' * 13}c, 123456789012 images, abcdefabcdef"
    text = f"runs {known}, `{known[:12]}` and 0123456789ab; {others}"
    assert missing(text, collected) == ["0123456789ab"]
