"""Signals end the process wherever they come, and let what tidies up come to its end."""

import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from sensai import signals
from sensai.signals import Interrupted, Terminated, requested, shielded, wait_for_signal
from tests.conftest import ROOT

_SECONDS = 60
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Signals raise in this process while the test lasts."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    before = {number: signal.getsignal(number) for number in _ENDING}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signals.catch_signals()
    yield
    signals.stop_raising()
    signals.release_signals()
    # No request is left behind, by which this process would be ended.
    signals._state.number = 0
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    """As another process does, so that the handler runs here."""
    os.kill(os.getpid(), number)
    for _ in range(1000):
        pass


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


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, Terminated), (signal.SIGINT, Interrupted)])
@pytest.mark.parametrize(
    "lose",
    [_in_a_weakref_callback, _in_a_del, _in_a_library_that_catches_all, _in_a_library_that_raises_another],
)
def test_a_signal_that_is_discarded_comes_again(
    caught: None, lose: Callable[[int], None], number: int, expected: type[BaseException]
) -> None:
    lose(number)
    assert requested() == number
    with pytest.raises(expected) as ended:
        time.sleep(_SECONDS)
    assert number == signal.SIGINT or ended.value.code == 128 + number


def test_what_tidies_up_is_not_cut_off_by_further_signals(caught: None) -> None:
    tidied = []
    with pytest.raises(Terminated):  # noqa: PT012
        try:
            send(signal.SIGTERM)
        finally:
            for number in _ENDING:
                send(number)
            # Longer than it takes until a signal that was lost comes again.
            time.sleep(0.5)
            tidied.append(True)
    assert tidied == [True]


def test_what_is_shielded_is_done_whole(caught: None) -> None:
    done = []
    with pytest.raises(Terminated):  # noqa: PT012
        with shielded():
            send(signal.SIGTERM)
            time.sleep(0.5)
            done.append(True)
        time.sleep(_SECONDS)
    assert done == [True]


def test_who_waits_for_a_signal_ends_in_order(caught: None) -> None:
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


def test_a_forked_process_ends_by_itself_and_does_not_end_this_one(caught: None) -> None:
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


def _script(body: str) -> "subprocess.Popen[str]":
    code = (
        "import ctypes, signal, sys, time\n"
        "from sensai import signals\n"
        "signals._SECONDS_TO_END = 1.0\n"
        "signals._SECONDS_FOR_LAST_CALLS = 2.0\n"
        "signals.at_last(lambda: 1 / 0)\n"
        "signals.at_last(lambda: print('closed', flush=True))\n"
        "signals.catch_signals()\n"
        "print('ready', flush=True)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code + body], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


_KEEPS_IT = """
kept = []
while True:
    try:
        time.sleep(9)
    except BaseException as error:
        kept.append(error)
"""
# A mutex that is locked twice: no signal ends that, and no Python runs.
_WAITS_IN_C = (
    "mutex, lock = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock\nlock(mutex)\nlock(mutex)\n"
)
_LAST_CALL_HANGS = "signals.at_last(lambda: time.sleep(999))\n" + _KEEPS_IT


@pytest.mark.processes
@pytest.mark.parametrize("body", [_KEEPS_IT, _WAITS_IN_C, _LAST_CALL_HANGS], ids=["kept", "in C", "last call hangs"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_does_not_end_is_ended(body: str, number: int) -> None:
    with _script("signal.signal(signal.SIGINT, signals._handle)\n" + body) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        process.send_signal(number)
        out, err = process.communicate(timeout=_SECONDS)
    assert process.returncode == 128 + number
    assert out == "closed\n"
    assert "ended by force" in err
    assert "Traceback" not in err


@pytest.mark.processes
def test_what_the_user_ignores_stays_ignored() -> None:
    code = (
        "import signal\nfrom sensai import signals\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "signals.catch_signals()\n"
        "signal.raise_signal(signal.SIGINT)\nsignal.raise_signal(signal.SIGHUP)\n"
        "signals.release_signals()\n"
        "print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN, signals.requested())\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout == "True 0\n"
