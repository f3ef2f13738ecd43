"""The tables of the documents are those that the scripts in analysis/ make from the collected results."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import contention_results, grouping_figures, retraining_tables
from sensai.analysis.contention_summary import summary
from sensai.analysis.markdown import markdown_table, write_table
from sensai.analysis.rounding import rounded_accuracy
from tests.conftest import ROOT

EXPERIMENTS = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")


def block(name: str, frame: pd.DataFrame) -> str:
    """How a table stands in a document."""
    return f"<!-- {name} -->\n{markdown_table(frame)}\n\n"


@pytest.fixture(scope="module")
def collected() -> pd.DataFrame:
    return retraining_tables.collected()


@pytest.mark.parametrize("table", retraining_tables.TABLES, ids=lambda table: table.name)
def test_a_table_of_retrainings_is_that_of_the_collected_results(
    table: retraining_tables.RunTable, collected: pd.DataFrame
) -> None:
    assert block(table.name, retraining_tables.shown(table, collected)) in EXPERIMENTS


def test_the_table_of_readme_is_that_of_the_collected_results(collected: pd.DataFrame) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert block("jointly_trained", retraining_tables.summary(collected)) in readme


def test_the_tables_of_contention_are_those_of_the_collected_results() -> None:
    cases = dict(list(pd.read_csv(contention_results.RESULTS).groupby("case")))
    assert "contention" in cases
    for case, measured in cases.items():
        assert block(case, contention_results.shown(summary(measured))) in EXPERIMENTS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.2124, "0.212"),
        (4.9, "4.90"),
        (52.0, "52.0"),
        (284.4, "284"),
        (1576.0, "1,580"),
        (123875.0, "124,000"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    table = pd.DataFrame({"task": ["training"], "way": ["in_turn"], "n": [1], "threads": [4], "data_share": [0.1]})
    bounds = dict.fromkeys(("low", "high", "vs_in_turn_low", "vs_in_turn_high"), np.nan)
    others = dict.fromkeys(("vs_in_turn", "start_s", "step_ms", "peak_mib"), 1.0)
    (shown,) = contention_results.shown(table.assign(images_per_s=value, **bounds, **others))["images/s, all together"]
    assert shown == text


def test_an_interval_stands_in_brackets() -> None:
    table = pd.DataFrame({"task": ["training"], "way": ["in_turn"], "n": [1], "threads": [4], "data_share": [0.1]})
    bounds = {"low": 1.0, "high": 30.0, "vs_in_turn_low": 0.5, "vs_in_turn_high": 1.25}
    others = dict.fromkeys(("vs_in_turn", "start_s", "step_ms", "peak_mib"), 1.0)
    (shown,) = contention_results.shown(table.assign(images_per_s=10.0, **bounds, **others)).to_dict("records")
    assert (shown["images/s, all together"], shown["/ in turn"]) == ("10.0 (1.00 to 30.0)", "1.00 (0.500 to 1.25)")


@pytest.mark.parametrize("study", grouping_figures.STUDIES)
def test_a_grouping_study_has_all_repeats_and_the_means_of_the_document(study: str) -> None:
    cells = grouping_figures.cells_of(pd.read_parquet(grouping_figures.RESULTS / "retrainings.parquet"), study)
    # Two counts of groups, four methods and the control, six seeds.
    assert len(cells) == 60
    assert not cells.duplicated(["n_groups", "ratio", "method", "seed"]).any()
    intervals = pd.read_csv(grouping_figures.RESULTS / "grouping_intervals.csv")
    own = intervals[intervals["study"] == study]
    summary = grouping_figures.summary_of(cells, own)
    documented = summary[["n_groups", "method"]].merge(own, on=["n_groups", "method"])
    assert [rounded_accuracy(mean, 3) for mean in summary["mean"]] == [f"{mean:.3f}" for mean in documented["mean"]]


def test_a_table_is_replaced_where_its_name_stands_and_nowhere_else(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("| a |\n| --- |\n\n<!-- mine -->\n| a |\n| --- |\n| 1 |\n\nend\n")
    write_table(document, "mine", pd.DataFrame({"b": [r"\1", ""], "c": ["", "x"]}))
    assert (
        document.read_text() == "| a |\n| --- |\n\n<!-- mine -->\n| b | c |\n| --- | --- |\n| \\1 | |\n| | x |\n\nend\n"
    )
    with pytest.raises(ValueError, match="other"):
        write_table(document, "other", pd.DataFrame({"b": []}))
