"""The documents that show results, and the one way in which scripts write into them."""

from collections.abc import Mapping
from pathlib import Path

from sensai.analysis.markdown import blocks_in, with_blocks

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "analysis/results"
PAGES = ROOT / "docs/results"
LAB_BOOK = ROOT / "docs/experiments.md"
# A block of which nothing is collected begins so.
NOT_MEASURED = "Not measured yet"


def documents() -> list[Path]:
    """Return the documents whose blocks scripts write."""
    return [ROOT / "README.md", LAB_BOOK, *sorted(PAGES.glob("*.md"))]


def write(blocks: Mapping[str, str]) -> None:
    """Write each block into every document that has it.

    Raises:
        ValueError: no document has one of the blocks.
    """
    shown: set[str] = set()
    for document in documents():
        text = document.read_text(encoding="utf-8")
        shown |= blocks_in(text).keys()
        document.write_text(with_blocks(text, blocks), encoding="utf-8")
    hidden = sorted(blocks.keys() - shown)
    if hidden:
        raise ValueError(f"no document has a line <!-- {hidden[0]} -->")


def figure(title: str, file: str) -> str:
    """Return the block that shows a figure of docs/results on a page there."""
    return f"![{title}]({file})"
