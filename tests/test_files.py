"""Files and folders are whole or not there."""

from pathlib import Path

import pytest

from sensai.files import whole_file, whole_folder, write_text


def _fail_in(path: Path, content: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(content)
        raise RuntimeError("killed")


def test_a_file_that_was_not_finished_leaves_the_old_one_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="killed"):
        _fail_in(path, "half")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.txt"]


def test_write_text_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert [entry.name for entry in path.parent.iterdir()] == ["c.txt"]


def test_the_file_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "late.txt"
    with whole_file(path) as temporary:
        temporary.write_text("x")
        assert not path.exists()
    assert path.read_text() == "x"


def _fail_in_folder(path: Path) -> None:
    with whole_folder(path) as temporary:
        (temporary / "half").write_text("half")
        raise RuntimeError("killed")


def test_a_folder_that_was_not_finished_leaves_the_old_one_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "data" / "set"
    with pytest.raises(RuntimeError, match="killed"):
        _fail_in_folder(path)
    assert not path.exists()
    with whole_folder(path) as temporary:
        (temporary / "old").write_text("old")
        assert not path.exists()
    with pytest.raises(RuntimeError, match="killed"):
        _fail_in_folder(path)
    assert [entry.name for entry in path.iterdir()] == ["old"]
    assert [entry.name for entry in path.parent.iterdir()] == ["set"]


def test_a_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "set"
    for name in ("first", "second"):
        with whole_folder(path) as temporary:
            (temporary / name).write_text(name)
    assert [entry.name for entry in path.iterdir()] == ["second"]
