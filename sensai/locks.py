"""Locks between processes; a waiting process logs which one holds the lock."""

import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from sensai.errors import StorageError
from sensai.files import whole_file

_log = logging.getLogger(__name__)
_SECONDS_IN_SILENCE = 1.0
_FOR_EVER = -1.0


@contextmanager
def locked(path: Path, doing: str, timeout: float = _FOR_EVER) -> Iterator[None]:
    """Hold a lock within the block, so that no other process holds it; log the holder while waiting.

    Args:
        path: of the lock, in an existing folder; a file with the suffix `.holder` beside it names the holder.
        doing: description of the block, for processes that wait.
        timeout: longest wait in seconds; negative: unlimited.

    Raises:
        OSError: the lock cannot be created, or the time is over (`filelock.Timeout`).
    """
    lock = FileLock(path)
    _acquire(lock, path, doing, timeout)
    holder = path.with_suffix(".holder")
    try:
        # The holder's file is only information; the lock works without it.
        with suppress(OSError, StorageError), whole_file(holder) as temporary:
            temporary.write_text(json.dumps(_this_process(doing)))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def is_taken(path: Path) -> bool:
    """Return True if another process holds the lock now."""
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def _acquire(lock: FileLock, path: Path, doing: str, timeout: float) -> None:
    start, said = time.monotonic(), ""
    while True:
        left = timeout - (time.monotonic() - start)
        try:
            lock.acquire(timeout=_SECONDS_IN_SILENCE if timeout < 0 else max(min(left, _SECONDS_IN_SILENCE), 0))
            return
        except Timeout:
            if timeout >= 0 and left <= _SECONDS_IN_SILENCE:
                raise
        # Each new holder is logged once.
        if (holder := _holder(path)) != said:
            _log.warning("%s: waits for %s (lock %s)", doing, holder, path)
            said = holder


def _this_process(doing: str) -> dict[str, str | int]:
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "doing": doing}


def _holder(path: Path) -> str:
    """Return a description of the process that holds a lock."""
    try:
        held = json.loads(path.with_suffix(".holder").read_text())
        return f"process {held['pid']} on {held['host']}, since {held['since']}: {held['doing']}"
    except (OSError, ValueError, LookupError, TypeError):
        return "another process"
