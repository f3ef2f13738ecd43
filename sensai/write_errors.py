"""Explain in one line why a file or a database cannot be written."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_REASONS = {
    errno.ENOSPC: "no space is left",
    # Systems raise this error if no file may be so large.
    errno.EFBIG: "no space is left",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
}
# Texts of libraries that pass on only the text of the system's reason: Rust, NumPy, Python without a temporary folder.
_TEXTS = {
    r"\(os error 28\)|No space left on device|Not enough free space|\d+ requested and \d+ written": errno.ENOSPC,
    r"\(os error 122\)|[Dd]isk quota exceeded": errno.EDQUOT,
    r"\(os error 30\)|Read-only file system": errno.EROFS,
    r"\(os error 13\)|No usable temporary directory": errno.EACCES,
}
_DATABASE_TEXTS = {
    "database or disk is full": _REASONS[errno.ENOSPC],
    "attempt to write a readonly database": "it is read-only",
}


def why_not_written(error: BaseException, path: Path | str | None = None, needed: int = 0) -> str | None:
    """Return in one line why a file could not be written; None for an error of another kind.

    Args:
        error: the error of any library; its causes are examined too.
        path: of the write, if the error names none.
        needed: bytes to write, if known.
    """
    for cause in _causes(error):
        if (number := _number(cause)) is not None:
            return _message(_REASONS[number], _path(cause) or path, needed)
    return None


def why_not_stored(error: BaseException, uri: str) -> str | None:
    """Return in one line why a database on a disk of this machine could not be written; None for another error."""
    for cause in _causes(error):
        for text, reason in _DATABASE_TEXTS.items():
            if text in str(cause):
                return _message(reason, uri, 0)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno in _REASONS:
        return error.errno
    return next((number for text, number in _TEXTS.items() if re.search(text, str(error))), None)


def _path(error: BaseException) -> str | None:
    """Return the file that an error names; of two, the one that is written."""
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        # The error of copying a folder lists source, target and reason of every file that was not copied.
        return str(error.args[0][0][1])
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)
    return os.fspath(named) if isinstance(named, str | os.PathLike) else None


def _message(reason: str, path: Path | str | None, needed: int) -> str:
    if not path:
        return reason
    room = _room(str(path), needed) if reason == _REASONS[errno.ENOSPC] else ""
    return f"{str(path)!r} cannot be written: {reason}{room}"


def _room(path: str, needed: int) -> str:
    """Return the needed bytes, if known, and the free bytes on the disk of a file or an SQLite database."""
    wanted = f"{needed} bytes are needed, " if needed else ""
    file = Path(path.partition(":///")[2] or path).absolute()
    with suppress(OSError, ValueError, StopIteration):
        there = next(each for each in (file, *file.parents) if each.exists())
        return f" ({wanted}{shutil.disk_usage(there).free} are free)"
    return ""
