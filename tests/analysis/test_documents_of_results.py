"""The tables and figures of the documents are those that the scripts in analysis/ make from the collected results."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis import (
    contention_results,
    decomposition_tables,
    documents,
    drawings,
    grouping_figures,
    recorded_tables,
    retraining_tables,
    stop_rules,
)
from sensai.analysis.markdown import blocks_in, with_blocks
from sensai.analysis.rounding import rounded_accuracy

SCRIPTS = (
    contention_results,
    decomposition_tables,
    grouping_figures,
    recorded_tables,
    retraining_tables,
    stop_rules,
)
PAGES = ("contention", "decomposition", "grouping", "recipe", "speed", "stopping", "tuning")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
DECIMAL = re.compile(r"(?<![\d.])\d+\.\d+(?![\d.])")


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """What the scripts make of the collected results."""
    return {name: content for script in SCRIPTS for name, content in script.blocks().items()}


def test_documents_show_what_the_scripts_make(made: dict[str, str]) -> None:
    seen = set()
    for document in documents.documents():
        shown = blocks_in(document.read_text(encoding="utf-8"))
        stale = [name for name in shown.keys() & made.keys() if shown[name] != made[name]]
        assert not stale, f"{document.name}: `python -m analysis` writes {stale}"
        seen |= shown.keys()
    assert made.keys() <= seen


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_results_says_what_is_not_measured_yet(page: str, made: dict[str, str]) -> None:
    text = (documents.PAGES / f"{page}.md").read_text(encoding="utf-8")
    missing = {name: content for name, content in blocks_in(text).items() if name not in made}
    assert all(content.startswith(documents.NOT_MEASURED) for content in missing.values()), missing.keys()
    if missing:
        assert "python analysis/studies/" in text


@pytest.mark.parametrize("page", PAGES)
def test_no_number_on_a_page_of_results_is_typed_by_hand(page: str) -> None:
    text = (documents.PAGES / f"{page}.md").read_text(encoding="utf-8")
    prose = FENCED.sub("", with_blocks(text, dict.fromkeys(blocks_in(text), "none")))
    assert not DECIMAL.findall(re.sub(r"`[^`]*`", "", prose))


@pytest.mark.parametrize("page", PAGES)
def test_figures_on_a_page_of_results_exist(page: str) -> None:
    text = (documents.PAGES / f"{page}.md").read_text(encoding="utf-8")
    figures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert not [name for name in figures if not (documents.PAGES / name).is_file()]


def test_the_lab_book_lists_its_sections_and_sums_each_up() -> None:
    text = documents.LAB_BOOK.read_text(encoding="utf-8")
    _, contents, *sections = text.split("\n## ")
    titles = [section.partition("\n")[0] for section in sections]
    # MyST and GitHub make anchors of headings in this way.
    anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
    assert re.findall(r"^- \[(.+)\]\(#(.+)\)$", contents, re.MULTILINE) == list(zip(titles, anchors, strict=True))
    assert not [section.partition("\n")[0] for section in sections if not section.partition("\n\n")[2].startswith("> ")]


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
def test_a_grouping_study_has_all_repeats_and_the_means_of_the_lab_book(study: str) -> None:
    cells, summary = grouping_figures.collected(study)
    # Two counts of groups, four methods and the control, six seeds.
    assert len(cells) == 60
    assert not cells.duplicated(["n_groups", "ratio", "method", "seed"]).any()
    intervals = pd.read_csv(documents.RESULTS / "grouping_intervals.csv")
    own = intervals[intervals["study"] == study]
    documented = summary[["n_groups", "method"]].merge(own, on=["n_groups", "method"])
    assert [rounded_accuracy(mean, 3) for mean in summary["mean"]] == [f"{mean:.3f}" for mean in documented["mean"]]


def test_the_studies_of_decomposition_compare_rows_that_they_have() -> None:
    for study in decomposition_tables.STUDIES:
        content = yaml.safe_load((documents.ROOT / f"analysis/studies/{study.name}.yaml").read_text())
        assert {row for contrast in study.contrasts for row in contrast} <= {row["row"] for row in content["rows"]}


def test_ten_members_are_compared_with_each_rival() -> None:
    found = retraining_tables.gains(retraining_tables.collected()).set_index("ten members less")
    assert found.loc["VGG-11", ["base model", "control, as many epochs"]].tolist() == ["+2.4", "+1.7"]
    assert found.loc["ResNet-20", ["base model", "control, 100 epochs"]].tolist() == ["-2.2", ""]


def test_a_block_is_replaced_where_its_name_stands_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [tmp_path / "a.md", tmp_path / "b.md"]
    pages[0].write_text("| a |\n| --- |\n\n<!-- mine -->\n| a |\n| --- |\n| 1 |\n\nend\n")
    pages[1].write_text("<!-- other -->\nNot measured yet.\n")
    monkeypatch.setattr(documents, "documents", lambda: pages)
    documents.write({"mine": "| b |\n| --- |\n| \\1 |"})
    assert pages[0].read_text() == "| a |\n| --- |\n\n<!-- mine -->\n| b |\n| --- |\n| \\1 |\n\nend\n"
    assert pages[1].read_text() == "<!-- other -->\nNot measured yet.\n"
    with pytest.raises(ValueError, match="no document has a line <!-- third -->"):
        documents.write({"third": "x"})
    with pytest.raises(ValueError, match="<!-- mine --> must have no empty line"):
        documents.write({"mine": "a\n\nb"})
    pages[1].write_text("<!-- mine -->\na\n\n<!-- mine -->\nb\n")
    with pytest.raises(ValueError, match="several <!-- mine -->"):
        documents.write({"mine": "x"})


@pytest.mark.parametrize("name", drawings.DRAWINGS)
def test_a_drawing_is_that_of_its_script_and_a_page_shows_it(name: str, tmp_path: Path) -> None:
    drawings.DRAWINGS[name]().save(tmp_path / "drawn.svg")
    assert (drawings.FOLDER / f"{name}.svg").read_text() == (tmp_path / "drawn.svg").read_text()
    ElementTree.parse(tmp_path / "drawn.svg")
    assert any(f"]({name}.svg)" in page.read_text() for page in drawings.FOLDER.glob("*.md"))
