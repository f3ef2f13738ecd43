"""What holds for every process: none outlives the one that started it, threads that wait leave the cores to others, and
memory that is freed is kept for what comes next.
"""

import ctypes
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_SECONDS_BETWEEN_LOOKS = 1.0
_WAIT_POLICY = "OMP_WAIT_POLICY"
_KEPT_BYTES = 1 << 30
# What glibc's allocator is told: as environment of new processes, and as number (malloc.h) and value in this one. Of freed
# memory so much stays; and large blocks too are of what was kept, not of the system.
_ALLOCATION = {"MALLOC_TRIM_THRESHOLD_": (-1, _KEPT_BYTES), "MALLOC_MMAP_MAX_": (-4, 0)}
_watched: set[int] = set()
_set_here: set[str] = set()


def end_with(parent: int, by: signal.Signals) -> None:
    """Send this process a signal, again and again, when the one that started it is gone, also one that was killed.

    Args:
        parent: its process id; told, since it may be gone before this is called.
        by: SIGTERM where there is something to tidy up, else SIGKILL.
    """
    if parent in _watched:
        return
    _watched.add(parent)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        while True:
            os.kill(os.getpid(), by)
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    threading.Thread(target=watch, daemon=True).start()


def runs_command(command_line: Sequence[str], program: str, command: str) -> bool:
    """Return whether a process's command line runs a command of a program, also as `python -m <program> <command>`."""
    names = [Path(part).name for part in command_line[:4]]
    return program in names and command in names[names.index(program) + 1 :]


def begin_worker(parent: int) -> None:
    """What a process does first that works for another: it ends with that one, by which alone it is interrupted.

    Ctrl-C goes to all processes of a terminal.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent, signal.SIGKILL)


@contextmanager
def first_interrupt_asks() -> Iterator[threading.Event]:
    """Within the block the first Ctrl-C only sets the event, for work that ends where it can go on later; a second one ends it.

    Nothing is changed in other threads than the main one, which get no signals, and where interrupts are ignored, as they are
    by what a script starts in the background.
    """
    asked, before = threading.Event(), signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield asked
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if not asked.is_set():
            asked.set()
        elif callable(before):
            before(number, frame)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def let_threads_sleep() -> None:
    """Have OpenMP's threads sleep while they wait, here and in whatever this process starts; the user's own value stays.

    By default they spin, which keeps cores from those that they wait for as soon as others are busy on the machine too.
    OpenMP reads the variable once, when it is loaded: to be called before torch is imported.
    """
    if _WAIT_POLICY not in os.environ:
        _set(_WAIT_POLICY, "passive")


def keep_memory() -> None:
    """Keep up to 1 GiB of freed memory for what is allocated next, here and in whatever this process starts.

    By default glibc gives large blocks, such as what a layer puts out, back to the system at once, and gets memory for the next
    layer page by page: half of the time of a pass through ResNet-110. Where the user has told the allocator something, and on
    systems without glibc, nothing is changed.
    """
    if allocator_settings() or platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    for name, (number, value) in _ALLOCATION.items():
        library.mallopt(number, value)
        _set(name, str(value))


def allocator_settings() -> list[str]:
    """The variables of the environment that tell the allocator something, or may put another in its place."""
    return [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"))]


def _set(name: str, value: str) -> None:
    os.environ[name] = value
    _set_here.add(name)


def given_environment() -> dict[str, str]:
    """The environment without what was set here: what a process gets that the user starts without sensAI."""
    return {name: value for name, value in os.environ.items() if name not in _set_here}
