"""Commands that the documents show name entry points and parameters that exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensai.__main__ import ENTRY_POINTS
from sensai.config import CONFIGS
from sensai.config.arguments import CONFIG_FILE
from tests.conftest import ROOT
from tests.docs.test_paths import DOCUMENTS, LAB_BOOK

# They begin a line, or stand after what a shell allows before a command.
_SENSAI = re.compile(r"(?:^|[;&|(]|\$ |\d+s? )\s*(?:\w+=\S* )*(?:python -m )?sensai (\w+)(?!\S)([^;&|#]*)")
_PROJECT = re.compile(r"\bmlflow run ([^;&|#]*)")
_OTHERS = {"ui": {"port"}, "completion": set[str]()}


def commands(text: str) -> Iterator[tuple[str, set[str]]]:
    """Yield entry point and parameters of each command in the code blocks of a document."""
    for block in re.findall(r"^[ ]*```(?:bash|console)?\n(.*?)^[ ]*```$", text, flags=re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            for name, rest in _SENSAI.findall(line):
                yield name, set(re.findall(r"--(\w+)", rest))
            for rest in _PROJECT.findall(line):
                entry_point = re.search(r"-e (\w+)", rest)
                yield entry_point[1] if entry_point else "main", set(re.findall(r"-P (\w+)=", rest))


def unknown(text: str) -> list[str]:
    """Return the entry points and parameters of a document that do not exist."""
    wrong = []
    for name, given in commands(text):
        if name not in {*ENTRY_POINTS, *_OTHERS}:
            wrong.append(name)
            continue
        known = _OTHERS[name] if name in _OTHERS else {*CONFIGS[name].model_fields, CONFIG_FILE}
        wrong += [f"{name} --{parameter}" for parameter in given - known - {"help"}]
    return wrong


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path != LAB_BOOK], ids=lambda path: str(path.relative_to(ROOT))
)
def test_commands_of_documents_exist(document: Path) -> None:
    assert unknown(document.read_text(encoding="utf-8")) == []


def test_wrong_names_are_found() -> None:
    block = (
        "```bash\nsensai prume --ratio 0.1\nA=1 sensai prune --ration 0.1 \\\n  --rotio 2   # sensai nothing --here\n"
    )
    block += (
        "mlflow run . -e prune -P ratios=1 --env-manager local\nsensai --help; sensai ui --port 1 & sensai main\n```\n"
    )
    assert sorted(unknown(block)) == ["prume", "prune --ration", "prune --ratios", "prune --rotio"]
    assert unknown("```python\nsensai nothing\n```\n") == []
    assert {name for name, _ in commands(block)} == {"prume", "prune", "ui", "main"}
