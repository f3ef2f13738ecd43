"""Files and folders are complete or absent."""

import errno
import os
import re
import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sensai.errors import InputError, StorageError
from sensai.files import (
    array_bytes,
    regular_file,
    storage_error,
    temporary_folder,
    whole_file,
    whole_folder,
    write_array,
    write_text,
    writing,
)
from sensai.grouping.methods.groups_file import read_groups
from sensai.models.foreign_checkpoints import read_checkpoint
from sensai.pipeline.context import file_digest
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


def _device_that_is_full(path: Path, needed: int = 0) -> None:
    with writing(path, needed), open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")


def test_what_cannot_be_written_is_named_with_the_bytes_needed_and_free(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    with pytest.raises(StorageError) as raised:
        _device_that_is_full(path, 7)
    told = re.fullmatch(
        r"'(.*)' cannot be written: no space is left \(7 bytes are needed, (\d+) are free\)", str(raised.value)
    )
    assert told is not None
    assert told[1] == str(path)
    assert int(told[2]) > 7
    with pytest.raises(StorageError, match=r"no space is left \(\d+ are free\)$"):
        _device_that_is_full(path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), r"'/x/y' cannot be written: no space is left \("),
        (
            OSError(errno.ENOSPC, "No space left on device", "/from", None, "/x/to"),
            r"'/x/to' cannot be written: no space",
        ),
        (
            shutil.Error([("/from/a", "/to/a", "[Errno 28] No space left on device: '/from/a'")]),
            "^'/to/a' cannot be .*: no",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "'/mine' cannot be written: the disk quota is used up$"),
        (OSError(errno.EROFS, "Read-only file system"), "'/mine' cannot be written: the file system is read-only$"),
        (PermissionError(errno.EACCES, "Permission denied", "/z"), "'/z' cannot be written: permission is denied$"),
        (Exception("Error while serializing: I/O error: No space left on device (os error 28)"), "no space is left"),
        (OSError("262144 requested and 0 written"), "'/mine' cannot be written: no space is left"),
        (OSError("Not enough free space to write 32 bytes after offset 128"), "no space is left"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "permission is denied"),
    ],
)
def test_every_library_is_understood(error: Exception, said: str) -> None:
    with pytest.raises(StorageError, match=said) as raised, writing("/mine"):
        raise error
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("database or disk is full", r"no space is left \(\d+ are free\)"),
        ("attempt to write a readonly database", "it is read-only"),
    ],
)
def test_a_database_is_named_by_its_uri(tmp_path: Path, said: str, told: str) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    wrapped = RuntimeError("MLflow's")
    wrapped.__cause__ = sqlite3.OperationalError(said)
    assert re.fullmatch(rf"'{uri}' cannot be written: {told}", str(storage_error(wrapped, database=uri)))
    # An error of a database says nothing about a file.
    assert storage_error(wrapped, tmp_path) is None


@pytest.mark.parametrize("error", [ValueError("5"), OSError(errno.ENOENT, "No such file"), InputError("seed: 5")])
def test_other_errors_stay_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, writing("/mine"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("reserving", [True, False], ids=["reserved", "as macOS does"])
def test_what_there_is_no_room_for_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reserving: bool
) -> None:
    if not reserving:
        monkeypatch.delattr(os, "posix_fallocate")

    def never() -> Iterator[np.ndarray]:
        raise AssertionError("computed in vain")
        yield np.zeros(1)

    said = r"a' cannot be written: no space is left \(\d{16,} bytes are needed, \d+ are free\)"
    with pytest.raises(StorageError, match=said):
        write_array(tmp_path / "a", (2**30, 2**23), np.uint8, never())
    with pytest.raises(StorageError, match=said), whole_file(tmp_path / "a", 2**53):
        raise AssertionError("begun in vain")
    assert list(tmp_path.iterdir()) == []
    # Files that fit are written in the same way.
    with whole_file(tmp_path / "a", 3) as temporary:
        temporary.write_bytes(b"abc")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("shape", [(0, 2), (5,), (7, 2, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_an_array_that_is_written_in_parts_is_read_whole(tmp_path: Path, shape: tuple[int, ...], dtype: type) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    write_array(tmp_path / "a.npy", shape, dtype, [array[:2], array[2:]])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array, strict=True)
    assert (tmp_path / "a.npy").stat().st_size == array_bytes(shape, dtype)


def test_a_temporary_folder_is_removed_also_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def fill() -> None:
        with temporary_folder() as folder:
            (folder / "a").write_text("a")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match=f"^'{tmp_path}' cannot be written"):
        fill()
    assert list(tmp_path.iterdir()) == []
