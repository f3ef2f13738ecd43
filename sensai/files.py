"""Files and folders that are either whole or not there."""

import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Not imported the other way round: analysis stands by itself.
from analysis.files import whole_file as whole_file
from sensai.errors import InputError

_KINDS = (
    *((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket")),
    *((stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device")),
)


def regular_file(path: Path, parameter: str) -> Path:
    """Return the path of a file that a parameter names, which is there and can be read to its end.

    Raises:
        InputError: there is none, or it is a folder, a pipe, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    # A name may be too long, hold a null byte, or lie in a folder that is closed to us.
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{parameter}={str(path)!r}: there is no such file ({reason})") from error
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "a special file")
        raise InputError(f"{parameter}={str(path)!r}: there is no such file; this is {kind}")
    return path


def make_folder(path: Path, parameter: str) -> Path:
    """A folder below one that a parameter names, made where it is not there yet.

    Raises:
        InputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{parameter}={str(path)!r}: the folder cannot be made ({error.strerror})") from error
    return path


def write_text(path: Path, text: str) -> None:
    """Write a text file through a temporary name in the same folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        temporary.write_text(text)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
