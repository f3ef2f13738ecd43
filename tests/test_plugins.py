"""The user's own functions, named as file and function."""

from pathlib import Path

import pytest

from sensai.errors import InputError
from sensai.plugins import load_factory


def test_the_named_function_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def make(x):\n    return x + 1\n")
    assert load_factory(f"{tmp_path}/mine.py:make", "dataset")(1) == 2


def test_the_last_colon_separates(tmp_path: Path) -> None:
    folder = tmp_path / "a:b"
    folder.mkdir()
    (folder / "mine.py").write_text("def make():\n    return 'here'\n")
    assert load_factory(f"{folder}/mine.py:make", "dataset")() == "here"


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (None, "make", "there is no file"),
        ("value = 3\n", "value", "defines no function 'value'"),
        ("value = 3\n", "make", "defines no function 'make'"),
        ("import no_such_package_at_all\n", "make", "no_such_package_at_all"),
        ("def make(:\n", "make", "SyntaxError"),
    ],
)
def test_what_cannot_be_loaded_is_named(tmp_path: Path, content: str | None, name: str, message: str) -> None:
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load_factory(f"{path}:{name}", "criterion")
    assert str(caught.value).startswith("criterion=")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("def make(): pass")
    with pytest.raises(InputError, match="is not a Python file"):
        load_factory(f"{tmp_path}/mine.txt:make", "dataset")
