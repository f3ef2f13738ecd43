"""Documents name files and modules that exist."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

# The lab book keeps the commands and paths of its time; its links are followed all the same.
LAB_BOOK = ROOT / "docs" / "experiments.md"
DOCUMENTS = [
    *(path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"),
    *(path for path in (ROOT / "docs").rglob("*.md") if ".venv" not in path.parts),
]
_TOPS = "sensai|entrypoints|analysis|benchmarks|docs|tests"
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_PATH = re.compile(rf"(?<![\w/.:-])((?:{_TOPS})/[\w./-]*\w)(?![\w*<{{/])")
_MODULE = re.compile(r"python -m ((?:sensai|analysis|benchmarks|tests)(?:\.\w+)*)")


def _named(document: Path) -> set[Path]:
    text = document.read_text()
    links = {document.parent / link for link in _LINK.findall(text) if "://" not in link}
    if document == LAB_BOOK:
        return links
    modules = {ROOT / name.replace(".", "/") for name in _MODULE.findall(text)}
    return links | {ROOT / path for path in _PATH.findall(text)} | modules


def _is_to_be_written(path: Path, document: Path) -> bool:
    """Tell whether a page about new parts names the file that its reader writes: the folder is there."""
    return document.parent.name == "extending" and path.suffix == ".py" and path.parent.is_dir()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_in_documents_exist(document: Path) -> None:
    missing = {
        str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
        for path in _named(document)
        if not path.exists() and not path.with_suffix(".py").exists() and not _is_to_be_written(path, document)
    }
    assert not missing


def test_a_wrong_path_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "[page](b.md) [web](https://example.org/x) `sensai/cli.py` sensai/nowhere.py `python -m sensai.nothing`"
    )
    assert {path.name for path in _named(tmp_path / "a.md") if not path.exists()} == {"b.md", "nowhere.py", "nothing"}
