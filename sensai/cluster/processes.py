"""Rules of every process of sensAI.

It ends with its parent, its waiting threads leave the cores to others, and it keeps freed memory for reuse.
"""

import ctypes
import gc
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
# Settings of glibc's allocator: as environment variables of new processes, and as number (malloc.h) and value in this one.
# So much freed memory is kept, and large blocks also come from it instead of the system.
_ALLOCATION = {"MALLOC_TRIM_THRESHOLD_": (-1, _KEPT_BYTES), "MALLOC_MMAP_MAX_": (-4, 0)}
_watched: set[int] = set()
_set_here: set[str] = set()


def end_with(parent: int, by: signal.Signals) -> None:
    """Send this process a signal repeatedly when its parent is gone, even if the parent was killed.

    Args:
        parent: its process id; an argument, since the parent may be gone before this call.
        by: SIGTERM if there is something to clean up, else SIGKILL.
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
    """Initialise a worker process: it ends with its parent, and only the parent interrupts it.

    Ctrl-C goes to all processes of a terminal, so workers ignore it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent, signal.SIGKILL)


@contextmanager
def first_interrupt_asks() -> Iterator[threading.Event]:
    """Let the first Ctrl-C within the block only set the event, for work that can be resumed later; a second one ends it.

    Nothing changes in other threads than the main one, which get no signals. Nothing changes either if interrupts are
    ignored, as in processes that a script starts in the background.
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


@contextmanager
def without_collection() -> Iterator[None]:
    """Leave out garbage collection within the block, where libraries are imported.

    It would take a fifth of the processor time of a cached stage, and find nothing: what is imported stays.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # What is there now stays, and is not searched again.
        gc.freeze()
        if was_on:
            gc.enable()


def let_threads_sleep() -> None:
    """Make OpenMP's threads sleep while they wait, here and in processes that this one starts, unless the user has set it.

    By default they spin, which takes cores from the threads that they wait for if the machine is busy. OpenMP reads the
    variable once, when it is loaded, so this must be called before torch is imported.
    """
    if _WAIT_POLICY not in os.environ:
        _set(_WAIT_POLICY, "passive")


def keep_memory() -> None:
    """Keep up to 1 GiB of freed memory for the next allocations, here and in processes that this one starts.

    By default glibc returns large blocks, such as outputs of layers, to the system at once, and gets memory for the next
    layer page by page. That takes half of the time of a pass through ResNet-110. Nothing changes if the user has configured
    the allocator, or on systems without glibc.
    """
    if allocator_settings() or platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    for name, (number, value) in _ALLOCATION.items():
        library.mallopt(number, value)
        _set(name, str(value))


def allocator_settings() -> list[str]:
    """Return the environment variables that configure the allocator or may replace it."""
    return [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"))]


def _set(name: str, value: str) -> None:
    os.environ[name] = value
    _set_here.add(name)


def given_environment() -> dict[str, str]:
    """Return the environment without the variables set here, as for a process that the user starts without sensAI."""
    return {name: value for name, value in os.environ.items() if name not in _set_here}
