"""The tables of docs/results that were recorded in the lab book and not collected.

python -m analysis.recorded_tables

Times, for example, depend on a machine and its minute. A benchmark prints them, and the lab book has them with their
conditions. The script copies each table below a line `<!-- recorded NAME -->` of docs/experiments.md onto the pages that have
such a line, so that no number is typed twice.
"""

from analysis.documents import LAB_BOOK, write
from sensai.analysis.markdown import blocks_in


def blocks() -> dict[str, str]:
    """Return the recorded tables."""
    recorded = blocks_in(LAB_BOOK.read_text(encoding="utf-8"))
    return {name: content for name, content in recorded.items() if name.startswith("recorded ")}


def main() -> None:
    """Write the tables."""
    write(blocks())


if __name__ == "__main__":
    main()
