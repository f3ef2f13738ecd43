"""Results as Markdown, written into the documents that show them.

A block of a document stands below a line `<!-- NAME -->` and ends with the next empty line.
"""

import re
from collections import Counter
from collections.abc import Mapping

import pandas as pd

_BLOCK = re.compile(r"(?P<mark>^<!-- (?P<name>.+?) -->\n)(?P<content>(?:.+\n)+)", re.MULTILINE)


def markdown_table(frame: pd.DataFrame) -> str:
    """Return a frame of texts as a Markdown table, without its index; the last line has no line end."""
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, row))} |".replace("|  |", "| |").replace("|  |", "| |") for row in rows)


def blocks_in(document: str) -> dict[str, str]:
    """Return name -> content of the blocks of a document, without their last line ends.

    Raises:
        ValueError: two blocks have one name.
    """
    found = [(match["name"], match["content"].removesuffix("\n")) for match in _BLOCK.finditer(document)]
    twice = [name for name, count in Counter(name for name, _ in found).items() if count > 1]
    if twice:
        raise ValueError(f"blocks must have names of their own, but there are several <!-- {twice[0]} -->")
    return dict(found)


def with_blocks(document: str, blocks: Mapping[str, str]) -> str:
    """Return a document in which each of its blocks that is named here has this content; names that it lacks are ignored.

    Raises:
        ValueError: a content has an empty line, so it would not be one block.
    """
    split = [name for name, content in blocks.items() if not content or "\n\n" in content or content.endswith("\n")]
    if split:
        raise ValueError(f"the content of <!-- {split[0]} --> must have no empty line")
    return _BLOCK.sub(lambda match: match["mark"] + blocks.get(match["name"], match["content"][:-1]) + "\n", document)
