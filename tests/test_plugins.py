"""Users' functions, named as file and function."""

import hashlib
from pathlib import Path

import pytest

from sensai.errors import InputError
from sensai.plugins import factory_digest, load_factory


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


def test_modules_are_found_on_the_path_and_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "own_plugin_module.py").write_text("def make():\n    return 'here'\n")
    assert load_factory("own_plugin_module:make", "arch")() == "here"
    assert load_factory("os.path:basename", "arch")("a/b") == "b"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("no_such_module_at_all.nets:make", "there is no module 'no_such_module_at_all'"),
        ("os.path:no_such_function", "'os.path' defines no function 'no_such_function'"),
        ("os.path:sep", "'os.path' defines no function 'sep'"),
    ],
)
def test_modules_that_are_not_there_are_named(reference: str, message: str) -> None:
    with pytest.raises(InputError, match=f"arch='{reference}': {message}"):
        load_factory(reference, "arch")


def test_a_file_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "beside_the_plugin.py").write_text("VALUE = 7\n")
    (folder / "mine.py").write_text("from beside_the_plugin import VALUE\ndef make():\n    return VALUE\n")
    assert load_factory(f"{folder}/mine.py:make", "arch")() == 7


def test_an_edited_file_is_read_again_and_a_repaired_one_too(tmp_path: Path) -> None:
    file, digests = tmp_path / "mine.py", []
    for value in (1, 2):
        file.write_text(f"def make():\n    return {value}\n")
        assert load_factory(f"{file}:make", "arch")() == value
        digests.append(factory_digest(f"{file}:make", "arch"))
    file.write_text("raise ValueError('not yet')\n")
    for _ in range(2):
        with pytest.raises(InputError, match="not yet"):
            load_factory(f"{file}:make", "arch")
    assert digests[0] != digests[1]
    assert digests[1] == hashlib.sha256(b"def make():\n    return 2\n").hexdigest()


def test_a_module_without_source_has_no_digest() -> None:
    with pytest.raises(InputError, match="arch='sys:exit': the module has no source file"):
        factory_digest("sys:exit", "arch")
