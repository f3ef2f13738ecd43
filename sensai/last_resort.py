"""Report an unexpected exception: write its traceback to a file, and explain it in one line."""

import logging
import os
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path

from sensai.errors import described, shortened
from sensai.signals import Interrupted, Terminated

_log = logging.getLogger(__name__)
_FOLDER = "tracebacks"
# Libraries report a lack of memory in these words.
_WITHOUT_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")


def full_traceback(error: BaseException) -> str:
    """Return the traceback with all causes, also those of other processes, below the command line."""
    head = f"{time.strftime('%Y-%m-%d %H:%M:%S')} Python {sys.version.split()[0]}: {' '.join(sys.argv)}\n"
    return head + "".join(traceback.format_exception(error))


def kept(text: str, stage: str, work_dir: Path) -> Path | None:
    """Write a traceback into `work_dir/tracebacks`, or into the system's temporary folder if that is not possible.

    Returns:
        The file; None if neither is writable.
    """
    name = f"{stage}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for folder in (work_dir / _FOLDER, _temporary()):
        if folder is not None and _written(folder / name, text):
            return (folder / name).absolute()
    return None


def explained(error: BaseException) -> str:
    """Return the type of an error, its message, and what may help."""
    parts = [f"unexpected {described(error)}"]
    if isinstance(error, ImportError):
        parts.append("a package is missing or broken: install what pyproject.toml and conda.yaml name")
    elif isinstance(error, MemoryError) or any(text in str(error).lower() for text in _WITHOUT_MEMORY):
        parts.append("memory is exhausted: fewer jobs and smaller batches need less")
    elif isinstance(error, SystemExit):
        parts.append("a library or code of yours called sys.exit")
    return "; ".join(parts)


def use_short_hooks() -> None:
    """Report exceptions that Python ignores or that end a thread in one line each, instead of tracebacks."""
    sys.unraisablehook = _ignored
    threading.excepthook = _ended_thread


def _ignored(what: "sys.UnraisableHookArgs") -> None:
    # A signal that arrives in such a place is sent again.
    if what.exc_value is None or isinstance(what.exc_value, Terminated | Interrupted):
        return
    _log.warning("ignored in %s: %s", shortened(repr(what.object)), described(what.exc_value))


def _ended_thread(what: threading.ExceptHookArgs) -> None:
    if what.exc_value is not None and not isinstance(what.exc_value, SystemExit):
        name = what.thread.name if what.thread else "unknown"
        _log.warning("the thread %s ended: %s", name, described(what.exc_value))
        _log.debug("%s", "".join(traceback.format_exception(what.exc_value)))


def _temporary() -> Path | None:
    try:
        return Path(tempfile.gettempdir()) / f"sensai-{_FOLDER}-{os.getuid()}"
    # No temporary folder of the system is writable.
    except OSError:
        return None


def _written(path: Path, text: str) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
        return True
    except OSError:
        # Half of a traceback is useless, and it takes space on a full disk.
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return False
