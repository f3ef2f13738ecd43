"""Signals that ask this process to end: none is lost, none interrupts cleaning up, and the wait is limited.

The handler raises an exception in the main thread. Python discards it if that thread is in a weakref callback or a
`__del__`, and libraries catch it. So a thread checks whether the exception still exists: an exception that propagates does,
a discarded one does not. In the latter case the thread sends the signal again. The thread learns of signals through a pipe,
even if the main thread waits in a library and runs no Python. If the process has not ended after a minute, the thread makes
the last calls and ends it.
"""

import os
import select
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_IDLE = 1.0
_SECONDS_TO_END = 60.0
_SECONDS_FOR_LAST_CALLS = 15.0
# Closing a terminal sends SIGHUP.
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Scripts that start processes in the background, and `nohup`, ignore these; they stay ignored.
_MAY_BE_IGNORED = (signal.SIGINT, signal.SIGHUP)


class Terminated(SystemExit):
    """A signal asked this process to end; the status is 128 plus the signal's number."""


class Interrupted(KeyboardInterrupt):
    """The user asked this process to end, by Ctrl-C."""


@dataclass
class _State:
    """The state of requests to end this process.

    Attributes:
        raising: True while a signal raises in the main thread.
        shields: number of open blocks in which a signal must not raise.
        number: of the first signal; 0: there was none.
        since: its time, by `time.monotonic`.
        raised: a weak reference to the exception.
        obeyed: the exception, if the process is ending because of it.
        wakeup: the end of the pipe to which Python writes signals.
    """

    raising: bool = False
    shields: int = 0
    number: int = 0
    since: float = 0.0
    raised: "weakref.ref[BaseException] | None" = None
    obeyed: BaseException | None = None
    wakeup: int = -1

    def ask(self, number: int) -> None:
        """Record the first signal."""
        if not self.number:
            self.since, self.number = time.monotonic(), number

    def exception_exists(self) -> bool:
        """Return True if the exception exists: it propagates, or is kept somewhere."""
        return self.raised is not None and self.raised() is not None

    def exception(self) -> BaseException:
        """Return a new exception; this module keeps no reference to it."""
        error = Interrupted() if self.number == signal.SIGINT else Terminated(128 + self.number)
        self.raised = weakref.ref(error)
        return error


_state = _State()
_last_calls: list[Callable[[], None]] = []


def catch_signals() -> None:
    """Make SIGTERM, SIGHUP and Ctrl-C raise `Terminated` or `Interrupted` in the main thread, until `stop_raising`."""
    global _state
    source, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    _state = _State(raising=True, wakeup=wakeup)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    for number in _ENDING:
        if number not in _MAY_BE_IGNORED or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)
    threading.Thread(target=_watch, args=(_state, source), name="sensai-signals", daemon=True).start()


def stop_raising() -> None:
    """Only record signals from now on, because this process is about to end."""
    _state.raising = False


def release_signals() -> None:
    """Restore the system's handling; if a signal has come, the process is still ended if it does not end by itself."""
    for number in _ENDING:
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.SIG_DFL)
    if _state.wakeup >= 0:
        signal.set_wakeup_fd(-1)
        os.close(_state.wakeup)
        _state.wakeup = -1


def requested() -> int:
    """Return the number of the signal that asked this process to end; 0 if there was none."""
    return _state.number


@contextmanager
def shielded() -> Iterator[None]:
    """Delay the exception of a signal until the block ends; the block must be short and not be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    state = _state
    state.shields += 1
    try:
        yield
    finally:
        state.shields -= 1


def wait_for_signal() -> None:
    """Return when a signal asks this process to end; later signals are ignored, because the process is then ending."""
    try:
        while True:
            time.sleep(1)
    except (KeyboardInterrupt, Terminated) as error:
        _state.obeyed = error


def call_before_end(call: Callable[[], None]) -> None:
    """Register a call to make before this process is ended by force, in a thread and for at most 15 seconds."""
    _last_calls.append(call)


def _handle(number: int, _frame: object) -> None:
    _state.ask(number)
    if _state.raising and not _state.shields and not _state.exception_exists():
        # No local variable holds the exception, since it would keep itself alive through its traceback.
        raise _state.exception()


def _watch(state: _State, source: int) -> None:
    open_pipe = True
    while open_pipe or state.number:
        if open_pipe and select.select([source], [], [], 0 if state.number else _SECONDS_IDLE)[0]:
            received = os.read(source, 512)
            open_pipe = bool(received)
            for number in received:
                # If another handler for Ctrl-C is installed, that one handles it.
                if number in _ENDING and (number != signal.SIGINT or signal.getsignal(number) is _handle):
                    state.ask(number)
        # The handler may run later than this thread.
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        if state.number:
            _enforce_end(state)
    os.close(source)


def _enforce_end(state: _State) -> None:
    if time.monotonic() > state.since + _SECONDS_TO_END:
        _end_by_force(state.number)
    if state.raising and not state.exception_exists():
        signal.pthread_kill(threading.main_thread().ident or 0, state.number)


def _end_by_force(number: int) -> None:
    calling = threading.Thread(target=_call_last, daemon=True)
    calling.start()
    calling.join(_SECONDS_FOR_LAST_CALLS)
    with suppress(OSError):
        name = signal.Signals(number).name
        os.write(2, f"error: not ended {_SECONDS_TO_END:.0f} s after {name}: ended by force\n".encode())
    os._exit(128 + number)


def _call_last() -> None:
    for call in _last_calls:
        # The next call must be made even if one fails.
        with suppress(Exception):
            call()


def _forget() -> None:
    """Reset a forked process: SIGTERM ends it; Ctrl-C and the pipe are left to its parent."""
    if _state.wakeup < 0:
        return
    signal.set_wakeup_fd(-1)
    for number in _ENDING:
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)


os.register_at_fork(after_in_child=_forget)
