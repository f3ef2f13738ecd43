"""Files and folders that are either complete or absent. If there is no space for one, one line says so and nothing is left."""

import errno
import io
import math
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from sensai.errors import DamagedError, InputError, StorageError, described
from sensai.input_paths import searched
from sensai.write_errors import why_not_stored, why_not_written

# Systems and file systems that cannot reserve space raise these.
_CANNOT = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV}


def storage_error(
    error: BaseException, path: Path | str | None = None, needed: int = 0, database: str = ""
) -> StorageError | None:
    """Return the message for a failed write; None for an error of another kind.

    Args:
        error: what was raised.
        path: see `sensai.write_errors.why_not_written`.
        needed: see there.
        database: URI of the database of the write, if any.
    """
    if isinstance(error, InputError):
        return error if isinstance(error, StorageError) else None
    reason = why_not_written(error, path, needed) or (why_not_stored(error, database) if database else None)
    return None if reason is None else StorageError(reason)


@contextmanager
def writing(path: Path | str, needed: int = 0) -> Iterator[None]:
    """Turn failed writes within the block into a StorageError; `path` is named if the error names no file.

    Raises:
        StorageError: no space is left for it, or it may not be written; every other error stays as it is.
    """
    try:
        yield
    except Exception as error:
        failure = storage_error(error, path, needed)
        if failure is None or failure is error:
            raise
        raise failure from error


@contextmanager
def reading(what: str, repair: str = "") -> Iterator[None]:
    """Within the block a file is read that a user or a crash may have damaged.

    Args:
        what: the file, for the message.
        repair: what the user can do about it; empty: nothing but to take another file.

    Raises:
        DamagedError: the block has raised anything but an InputError; libraries raise errors of any class for broken files.
    """
    try:
        yield
    # Too little memory is no fault of the file.
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise DamagedError(f"{what} cannot be read ({described(error)})" + (f"; {repair}" if repair else "")) from error


@contextmanager
def storing(database: str) -> Iterator[None]:
    """Turn failed writes to a database within the block into a StorageError that names its URI.

    Raises:
        StorageError: no space is left for it, or it may not be written; every other error stays as it is.
    """
    try:
        yield
    except Exception as error:
        failure = storage_error(error, database=database)
        if failure is None or failure is error:
            raise
        raise failure from error


def reserve(path: Path, needed: int) -> None:
    """Create a file and reserve so many bytes for it, before any of them is computed.

    Raises:
        StorageError: there is less space; the file is removed.
    """
    try:
        with writing(path, needed):
            _allocate(path, needed)
    except StorageError:
        _remove(path)
        raise


def _remove(path: Path) -> None:
    # A read-only file system has nothing to remove and raises an error.
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _allocate(path: Path, needed: int) -> None:
    with path.open("ab") as file:
        try:
            if needed:
                os.posix_fallocate(file.fileno(), 0, needed)
        # macOS has no such function.
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _CANNOT:
                raise
            if shutil.disk_usage(path.parent).free < needed:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def array_bytes(shape: tuple[int, ...], dtype: type) -> int:
    """Return the size of an array file in bytes."""
    return len(_array_header(shape, dtype)) + math.prod(shape) * np.dtype(dtype).itemsize


def write_array(path: Path, shape: tuple[int, ...], dtype: type, chunks: Iterable[np.ndarray]) -> None:
    """Write an array file (.npy) part by part; its space is reserved before the first part is computed.

    A memory map is not used, because it ends the process by SIGBUS if no space is left.

    Args:
        path: of the file.
        shape: of the array.
        dtype: of the array.
        chunks: consecutive parts along its first axis.

    Raises:
        StorageError: it cannot be written.
    """
    needed = array_bytes(shape, dtype)
    reserve(path, needed)
    with writing(path, needed), path.open("r+b") as file:
        file.write(_array_header(shape, dtype))
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk, dtype).data)


def _array_header(shape: tuple[int, ...], dtype: type) -> bytes:
    header, description = io.BytesIO(), np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(header, {"descr": description, "fortran_order": False, "shape": shape})
    return header.getvalue()


_KINDS = (
    *((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket")),
    *((stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device")),
)


def regular_file(path: Path, parameter: str) -> Path:
    """Return the path of a file that a parameter names, if it exists and can be read to its end.

    Raises:
        InputError: it does not exist, or is a folder, a pipe, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    # The name may be too long, contain a null byte, or be in a folder without access.
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{parameter}={str(path)!r}: there is no such file ({reason}){searched(path)}") from error
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "a special file")
        raise InputError(f"{parameter}={str(path)!r}: there is no such file; this is {kind}")
    return path


def make_folder(path: Path, parameter: str) -> Path:
    """Return a folder below one that a parameter names; create it if necessary.

    Raises:
        InputError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{parameter}={str(path)!r}: the folder cannot be made ({error.strerror})") from error
    return path


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name in the same folder, then rename it.

    Raises:
        StorageError: it cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, len(text.encode())) as temporary:
        temporary.write_text(text)


@contextmanager
def whole_file(path: Path, needed: int = 0) -> Iterator[Path]:
    """Yield a temporary name beside `path`, which it replaces if the block ends without an error.

    Args:
        path: of the file.
        needed: its approximate size in bytes; the block does not begin if there is less space.

    Raises:
        StorageError: it cannot be written.
    """
    with writing(path, needed), _replacing(path) as temporary:
        if needed:
            # The space is released at once: libraries write to another file first, or begin with an empty one.
            try:
                _allocate(temporary, needed)
            finally:
                _remove(temporary)
        yield temporary


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, which it replaces if the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        # A read-only folder has nothing to remove, and the block's own error must be reported.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which it replaces if the block ends without an error.

    Raises:
        StorageError: it cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield temporary
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder in TMPDIR that is removed when the block ends.

    Raises:
        StorageError: TMPDIR is not writable.
    """
    with writing("TMPDIR"):
        parent = tempfile.gettempdir()
    with writing(parent), tempfile.TemporaryDirectory(prefix="sensai-", dir=parent) as folder:
        yield Path(folder)
