"""Standard input, output and error, which may be closed, full, broken, or of a narrow encoding."""

import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sensai.errors import InputError

_log = logging.getLogger(__name__)
_PATIENCE = 3.0
_STREAMS = 3


class _Tolerant(io.FileIO):
    """A file whose writes never fail, because nobody could be told of the failure."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            return len(memoryview(data))  # type: ignore[arg-type]


def prepare() -> None:
    """Make the standard streams safe to write to.

    A closed stream is opened on the null device; otherwise the next opened file would take its number. Characters that an
    encoding lacks are escaped. Failed writes to standard error are ignored.
    """
    for number in range(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (as long as the process)
    # Replaced streams, such as those of a notebook, are left alone.
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        encoding = getattr(sys.stderr, "encoding", "utf-8")
        file = _Tolerant(2, "w", closefd=False)
        sys.stderr = io.TextIOWrapper(file, encoding, "backslashreplace", line_buffering=True, write_through=True)


def answer(line: str) -> bool:
    """Write a line to standard output at once; return True if somebody still reads there.

    Raises:
        InputError: it cannot be written, for example because the disk is full.
    """
    try:
        print(line, flush=True)  # noqa: T201  (what the user asked for)
    except BrokenPipeError:
        _drop_output()
        return False
    except OSError as error:
        _drop_output()
        raise InputError(f"standard output cannot be written ({error.strerror})") from error
    return True


def say(text: str) -> None:
    """Write a text to standard output that is also stored elsewhere; failures are ignored."""
    try:
        print(text, flush=True)  # noqa: T201  (what the user asked for)
    except OSError:
        _drop_output()


@contextmanager
def waiting(what: str, seconds: float = _PATIENCE) -> Iterator[None]:
    """Log what a block does if it takes longer than some seconds."""
    timer = threading.Timer(seconds, _log.info, ("%s ...", what))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _drop_output() -> None:
    """Discard the buffer and all further output, since Python would fail to write it at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
