"""No process outlives the one that started it."""

import os
import signal
import threading
import time

_SECONDS_BETWEEN_LOOKS = 1.0
_watched: set[int] = set()


def end_with(parent: int, by: signal.Signals) -> None:
    """Send this process a signal when the one that started it is gone, also one that was killed.

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
        os.kill(os.getpid(), by)

    threading.Thread(target=watch, daemon=True).start()
