"""Signals end the process at any moment, and let it clean up first."""

import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from tests.helpers.signalled import SCENARIOS

_SECONDS = 60


@pytest.mark.processes
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_signals_in_a_process_of_its_own(scenario: str) -> None:
    command = [sys.executable, "-m", "tests.helpers.signalled", scenario]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=4 * _SECONDS)
    assert (done.stdout, done.returncode) == ("as it should be\n", 0), done.stderr


def _script(body: str) -> "subprocess.Popen[str]":
    code = (
        "import ctypes, signal, sys, time\n"
        "from sensai import signals\n"
        "signals._SECONDS_TO_END = 1.0\n"
        "signals._SECONDS_FOR_LAST_CALLS = 2.0\n"
        "signals.call_before_end(lambda: 1 / 0)\n"
        "signals.call_before_end(lambda: print('closed', flush=True))\n"
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
# A mutex locked twice: no signal ends that, and no Python runs.
_WAITS_IN_C = (
    "mutex, lock = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock\nlock(mutex)\nlock(mutex)\n"
)
_LAST_CALL_HANGS = "signals.call_before_end(lambda: time.sleep(999))\n" + _KEEPS_IT


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
