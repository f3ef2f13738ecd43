"""Groups from a file."""

import json
from pathlib import Path

import pytest

from sensai.errors import InputError
from sensai.grouping.methods.groups_file import read_groups

NAMES = ("cat", "dog", "ship", "truck")


def _written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "groups.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("content", [[["dog", "truck"], ["ship", "cat"]], [[1, 3], [2, 0]], [["dog", 3], [2, "cat"]]])
def test_names_and_indices_mean_the_same(tmp_path: Path, content: list) -> None:
    assert read_groups(_written(tmp_path, content), NAMES) == [(1, 3), (2, 0)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{not json", "cannot be read as JSON"),
        ({"a": [0]}, "list of non-empty lists"),
        ([[0, 1], []], "list of non-empty lists"),
        ([0, 1, 2, 3], "list of non-empty lists"),
        ([["cat", "dog"], ["ship"]], "missing: truck"),
        ([["cat", "dog"], ["ship", "truck", "ship"]], "twice in one group: ship"),
        ([["cat", "dog", 0], ["ship", "dog"]], "twice in one group: cat; missing: truck"),
        ([["cat", "dog"], ["ship", "lorry"]], "'lorry' is neither a class name nor an index below 4"),
        ([[0, 1], [2, 4]], "4 is neither"),
        ([[0, 1], [2, -1]], "-1 is neither"),
        ([[0, True], [2, 3]], "True is neither"),
        ([[0, 1.0], [2, 3]], "1.0 is neither"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: object, message: str) -> None:
    path = _written(tmp_path, content)
    with pytest.raises(InputError, match=message) as caught:
        read_groups(path, NAMES)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"groups_file='.*none.json'"):
        read_groups(tmp_path / "none.json", NAMES)
