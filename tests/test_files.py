"""Files and folders are whole or not there."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from sensai.errors import InputError
from sensai.files import regular_file, whole_file, whole_folder, write_text
from sensai.grouping.methods.groups_file import read_groups
from sensai.models.checkpoints import read_checkpoint
from sensai.stages.inputs import file_digest
from sensai.tuning.space import read_space


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


def _make(kind: str, folder: Path) -> Path:
    path = folder / "named.pth"
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("kind", ["a named pipe", "a socket", "a folder", "a device"])
@pytest.mark.parametrize(
    ("parameter", "read"),
    [
        ("checkpoint", read_checkpoint),
        ("checkpoint", lambda path: file_digest(str(path), "checkpoint")),
        ("groups_file", lambda path: read_groups(path, ["a"])),
        ("space", lambda path: read_space(str(path))),
    ],
    ids=["checkpoint", "digest", "groups_file", "space"],
)
def test_what_cannot_be_read_to_its_end_is_no_file(
    tmp_path: Path, kind: str, parameter: str, read: Callable[[Path], object]
) -> None:
    path = _make(kind, tmp_path)
    with pytest.raises(InputError, match=rf"^{parameter}='{path}': there is no such file; this is {kind}$"):
        read(path)


@pytest.mark.parametrize("name", ["none", "x" * 300, "nu\0ll", "none/below"])
def test_names_that_no_file_has_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"space=.*: there is no such file \("):
        regular_file(tmp_path / name, "space")


def test_a_link_to_a_file_is_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    assert regular_file(tmp_path / "link", "space") == tmp_path / "link"
