"""The traceback of an unexpected error goes to a file, and one line explains it."""

import resource
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensai.last_resort import explained, full_traceback, kept, use_short_hooks
from sensai.training.backends.local import in_processes


def test_the_traceback_lies_in_the_working_folder(tmp_path: Path) -> None:
    file = kept("the traceback \udcff", "prune", tmp_path / "work")
    assert file is not None
    assert file.parent == tmp_path / "work" / "tracebacks"
    assert file.read_text() == "the traceback \\udcff"


@pytest.fixture
def own_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


def test_elsewhere_where_that_is_not_possible(tmp_path: Path, own_temporary: Path) -> None:
    (tmp_path / "work").write_text("a file")
    file = kept("the traceback", "prune", tmp_path / "work")
    assert file is not None
    assert own_temporary in file.parents
    assert file.read_text() == "the traceback"


@pytest.fixture
def no_room() -> Iterator[None]:
    """Limit files of this process to ten bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_nothing_is_left_where_there_is_no_room(tmp_path: Path, own_temporary: Path, no_room: None) -> None:
    assert kept("the traceback", "prune", tmp_path / "work") is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("boom"), "unexpected RuntimeError: boom"),
        (ModuleNotFoundError("No module named 'torch'"), "a package is missing or broken"),
        (MemoryError(), "unexpected MemoryError; memory is exhausted"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "memory is exhausted"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "memory is exhausted"),
        (SystemExit(0), "sys.exit"),
    ],
)
def test_what_may_help_is_said(error: BaseException, said: str) -> None:
    assert said in explained(error)


def _fails_in_a_worker(number: int) -> None:
    raise RuntimeError(f"boom {number}")


@pytest.mark.processes
def test_the_traceback_of_a_worker_is_its_own() -> None:
    with pytest.raises(RuntimeError, match="boom") as raised:
        in_processes(_fails_in_a_worker, [1, 2], threads=1)
    assert "in _fails_in_a_worker" in full_traceback(raised.value)


def test_what_ends_a_thread_is_one_line(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr("sys.unraisablehook", None)
    use_short_hooks()
    thread = threading.Thread(target=_fails_in_a_worker, args=(7,), name="one of mine")
    thread.start()
    thread.join()
    assert [record.getMessage() for record in caplog.records] == ["the thread one of mine ended: RuntimeError: boom 7"]
