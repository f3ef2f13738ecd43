"""Standard input, output and error, which may be closed, full, broken, or of a narrow encoding."""

import io
import os
import sys

from sensai.errors import InputError

_STREAMS = 3


class _Tolerant(io.FileIO):
    """A file whose writes never fail: nobody could be told."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            return len(memoryview(data))  # type: ignore[arg-type]


def prepare() -> None:
    """Make the standard streams safe to write to.

    A closed one is opened on the null device, else the next file that is opened would be it. What an encoding lacks is escaped.
    What cannot be written to standard error is dropped.
    """
    for number in range(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (as long as the process)
    # Others, such as a notebook's, look after themselves.
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        encoding = getattr(sys.stderr, "encoding", "utf-8")
        file = _Tolerant(2, "w", closefd=False)
        sys.stderr = io.TextIOWrapper(file, encoding, "backslashreplace", line_buffering=True, write_through=True)


def answer(line: str) -> bool:
    """Write a line to standard output at once; tell whether anybody still reads there.

    Raises:
        InputError: it cannot be written; the disk is full, say.
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
    """Write what is also found elsewhere to standard output; where that is not possible, nothing is lost."""
    try:
        print(text, flush=True)  # noqa: T201  (what the user asked for)
    except OSError:
        _drop_output()


def _drop_output() -> None:
    """Send what is left in the buffer, and all that follows, nowhere: Python would write it when it ends, and fail."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
