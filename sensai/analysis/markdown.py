"""Tables of results as Markdown, written into the documents that show them."""

import re
from pathlib import Path

import pandas as pd


def markdown_table(frame: pd.DataFrame) -> str:
    """Return a frame of texts as a Markdown table, without its index; the last line has no line end."""
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, row))} |".replace("|  |", "| |").replace("|  |", "| |") for row in rows)


def write_table(document: Path, name: str, frame: pd.DataFrame) -> None:
    """Replace the table of a document that stands below the line `<!-- <name> -->`.

    Raises:
        ValueError: the document has no such line with a table below it, or several.
    """
    text = document.read_text(encoding="utf-8")
    marked = re.compile(rf"(?<=^<!-- {re.escape(name)} -->\n)(?:\|.*\n)+", re.MULTILINE)
    if len(marked.findall(text)) != 1:
        raise ValueError(f"{document} must have one table below a line <!-- {name} -->")
    table = markdown_table(frame)
    document.write_text(marked.sub(lambda _: f"{table}\n", text), encoding="utf-8")
