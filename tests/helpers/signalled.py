"""Effects of signals in a process: `python -m tests.helpers.signalled SCENARIO` prints "as it should be" and ends with 0.

It runs in a process of its own, since a late signal would end the tests.
"""

import os
import signal
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

from sensai import signals
from sensai.signals import Interrupted, Terminated, requested, shielded, wait_for_signal

_SECONDS = 60
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def send(number: int) -> None:
    """Send a signal like another process does, so that the handler runs here."""
    os.kill(os.getpid(), number)
    for _ in range(1000):
        pass


def raised(action: Callable[[], None]) -> BaseException:
    """Return the exception of a signal that ends an action; while it is kept, no signal is raised again."""
    try:
        action()
    except (Terminated, Interrupted) as error:
        return error
    raise AssertionError("no signal has ended it")


class _Object:
    pass


class _Lost:
    def __init__(self, number: int) -> None:
        self._number = number

    def __del__(self) -> None:
        send(self._number)


def _in_a_weakref_callback(number: int) -> None:
    kept = _Object()
    reference = weakref.ref(kept, lambda _: send(number))
    del kept
    assert reference() is None


def _in_a_del(number: int) -> None:
    _Lost(number)


def _in_a_library_that_catches_all(number: int) -> None:
    with suppress(BaseException):
        send(number)


def _in_a_library_that_raises_another(number: int) -> None:
    with suppress(RuntimeError):
        try:
            send(number)
        except BaseException as error:
            raise RuntimeError("interrupted") from error


def _comes_again(lose: Callable[[int], None], number: int) -> Callable[[], BaseException]:
    def scenario() -> BaseException:
        def loses() -> None:
            lose(number)
            assert requested() == number
            time.sleep(_SECONDS)

        error = raised(loses)
        if number == signal.SIGINT:
            assert isinstance(error, Interrupted)
        else:
            assert isinstance(error, Terminated)
            assert error.code == 128 + number
        return error

    return scenario


def tidying_up_is_not_cut_off() -> BaseException:
    """Further signals are ignored while the first is on its way."""
    tidied = []

    def tidies_up() -> None:
        try:
            send(signal.SIGTERM)
        finally:
            for number in _ENDING:
                send(number)
            # This is longer than a lost signal takes to come again.
            time.sleep(0.5)
            tidied.append(True)

    error = raised(tidies_up)
    assert tidied == [True]
    return error


def shielded_is_done_whole() -> BaseException:
    """A signal waits for the end of the block."""
    done = []

    def works() -> None:
        with shielded():
            send(signal.SIGTERM)
            time.sleep(0.5)
            done.append(True)
        time.sleep(_SECONDS)

    error = raised(works)
    assert done == [True]
    return error


def waiting_ends_in_order() -> None:
    """Who waits for a signal returns, and further ones change nothing."""
    child = os.fork()
    if not child:
        time.sleep(0.5)
        os.kill(os.getppid(), signal.SIGTERM)
        os._exit(0)
    wait_for_signal()
    send(signal.SIGTERM)
    time.sleep(0.5)
    os.waitpid(child, 0)
    assert requested() == signal.SIGTERM


def forked_ends_by_itself() -> None:
    """A forked process is ended by its own signal and does not end this one."""
    child = os.fork()
    if not child:
        signal.raise_signal(signal.SIGINT)
        time.sleep(_SECONDS)
        os._exit(0)
    time.sleep(0.5)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    time.sleep(0.5)
    assert (os.waitstatus_to_exitcode(status), requested()) == (-signal.SIGTERM, 0)


SCENARIOS: dict[str, Callable[[], object]] = {
    **{
        f"{lose.__name__.removeprefix('_')}, {number.name}": _comes_again(lose, number)
        for number in (signal.SIGTERM, signal.SIGINT)
        for lose in (
            _in_a_weakref_callback,
            _in_a_del,
            _in_a_library_that_catches_all,
            _in_a_library_that_raises_another,
        )
    },
    **{
        each.__name__: each
        for each in (
            tidying_up_is_not_cut_off,
            shielded_is_done_whole,
            waiting_ends_in_order,
            forked_ends_by_itself,
        )
    },
}


if __name__ == "__main__":
    sys.unraisablehook = lambda _: None
    # Tests that were started in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signals.catch_signals()
    # The exception is kept, so that no signal comes again.
    kept = SCENARIOS[sys.argv[1]]()
    os.write(1, b"as it should be\n")
    os._exit(0)
