"""The commands of pages that are not run are commands that sensAI takes: their entry points and parameters exist."""

import re
import shlex
from pathlib import Path

import pytest

from sensai.cli import parse
from tests.conftest import ROOT

PAGES = [page for folder in ("explanation", "results") for page in sorted((ROOT / "docs" / folder).glob("*.md"))]
# What stands for a run or a file of the reader.
PLACEHOLDER = re.compile(r"\b[A-Z]+(_[A-Z]+)*\b")


def commands(page: Path) -> list[list[str]]:
    """Return the calls of `sensai` in the blocks of a page, as words without `sensai`."""
    blocks = re.findall(r"^```(?:console)?\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("sensai ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_the_commands_of_a_page_are_understood(page: Path) -> None:
    for stage, *arguments in commands(page):
        if not PLACEHOLDER.search(" ".join(arguments)):
            parse(stage, arguments)


def test_explanations_begin_with_a_command_or_a_query() -> None:
    without = [
        page.stem for page in PAGES if page.parent.name == "explanation" and "```" not in page.read_text()[:2500]
    ]
    assert not without


def test_commands_are_found_whole(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```console\nsensai prune --ratio 0.1 \\\n  --epochs 2  # why\npython x.py\n```\n\n```text\nsensai y\n```\n"
    )
    assert commands(page) == [["prune", "--ratio", "0.1", "--epochs", "2"]]
