"""Signals that ask this process to end: none is lost, none cuts off what tidies up, and none is waited for without end.

The handler raises an exception in the main thread. Python discards it where that thread is in a weakref callback or a `__del__`
just then, and libraries catch it. So a thread looks whether the exception still exists: one that propagates does, one that was
discarded does not, and its signal is sent again. The thread hears of signals through a pipe, also while the main thread is in a
library that waits and runs no Python. A process that has not ended after a minute has its last calls made, and is ended.
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
# A terminal that is closed sends SIGHUP.
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Ignored by what a script starts in the background, or by `nohup`: that stays.
_MAY_BE_IGNORED = (signal.SIGINT, signal.SIGHUP)


class Terminated(SystemExit):
    """A signal has asked this process to end; the status is 128 and the signal's number."""


class Interrupted(KeyboardInterrupt):
    """The user has, by Ctrl-C."""


@dataclass
class _State:
    """What has been asked of this process.

    Attributes:
        raising: the main thread is in a block where a signal raises.
        shields: how many blocks are open in which it must not.
        number: of the first signal; 0: none has come.
        since: when it came.
        raised: the exception, for as long as it exists.
        obeyed: the exception, where somebody does what it asks for.
        wakeup: the pipe's end that Python writes signals to.
    """

    raising: bool = False
    shields: int = 0
    number: int = 0
    since: float = 0.0
    raised: "weakref.ref[BaseException] | None" = None
    obeyed: BaseException | None = None
    wakeup: int = -1

    def ask(self, number: int) -> None:
        """Note the first signal."""
        if not self.number:
            self.since, self.number = time.monotonic(), number

    def exception_exists(self) -> bool:
        """Tell whether the exception exists: it propagates, or somebody keeps it."""
        return self.raised is not None and self.raised() is not None

    def exception(self) -> BaseException:
        """Make the exception; nothing here keeps it."""
        error = Interrupted() if self.number == signal.SIGINT else Terminated(128 + self.number)
        self.raised = weakref.ref(error)
        return error


_state = _State()
_last_calls: list[Callable[[], None]] = []


def catch_signals() -> None:
    """Have SIGTERM, SIGHUP and Ctrl-C raise `Terminated` or `Interrupted` in the main thread, until `stop_raising`."""
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
    """Only note signals from now on: this process is about to end."""
    _state.raising = False


def release_signals() -> None:
    """Give the signals back to the system; where one has come, the process is still ended when it does not end by itself."""
    for number in _ENDING:
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.SIG_DFL)
    if _state.wakeup >= 0:
        signal.set_wakeup_fd(-1)
        os.close(_state.wakeup)
        _state.wakeup = -1


def requested() -> int:
    """Return the number of the signal that has asked this process to end; 0 where none has."""
    return _state.number


@contextmanager
def shielded() -> Iterator[None]:
    """Raise no signal within the block, but after it: for what must be done whole, and is done soon."""
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
    """Return when a signal asks this process to end; those that follow are ignored, since that is what it does now."""
    try:
        while True:
            time.sleep(1)
    except (KeyboardInterrupt, Terminated) as error:
        _state.obeyed = error


def call_before_end(call: Callable[[], None]) -> None:
    """Have something called before this process is ended by force, in a thread of its own and for 15 seconds at most."""
    _last_calls.append(call)


def _handle(number: int, _frame: object) -> None:
    _state.ask(number)
    if _state.raising and not _state.shields and not _state.exception_exists():
        # No local name holds the exception: it would keep itself alive through its traceback.
        raise _state.exception()


def _watch(state: _State, source: int) -> None:
    open_pipe = True
    while open_pipe or state.number:
        if open_pipe and select.select([source], [], [], 0 if state.number else _SECONDS_IDLE)[0]:
            received = os.read(source, 512)
            open_pipe = bool(received)
            for number in received:
                # Whoever has put a handler of his own in its place answers Ctrl-C himself.
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
        # Each is the last that can be done.
        with suppress(Exception):
            call()


def _forget() -> None:
    """In a forked process: end by SIGTERM, and leave Ctrl-C and the pipe to the one that forked it."""
    if _state.wakeup < 0:
        return
    signal.set_wakeup_fd(-1)
    for number in _ENDING:
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)


os.register_at_fork(after_in_child=_forget)
