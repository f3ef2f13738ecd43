"""Locks between processes, and the messages of waiting processes."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import Timeout

from sensai.locks import is_taken, locked
from tests.conftest import ROOT

# Holds a lock until it is told to continue.
HOLD = """
import sys
from pathlib import Path
from sensai.locks import locked
with locked(Path(sys.argv[1]), "prune digits"):
    print("held", flush=True)
    input()
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "a.b.lock"


@pytest.fixture
def holder(lock: Path) -> Iterator[subprocess.Popen]:
    """Yield a process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()


@pytest.mark.processes
@pytest.mark.parametrize("end", ["goes on", "is killed"])
def test_who_waits_is_told_for_whom_once(
    holder: subprocess.Popen, lock: Path, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()

    def wait() -> None:
        with locked(lock, "retrain digits"):
            done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not caplog.messages:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1.5)
        assert not done.is_set()
        (line,) = caplog.messages
        assert line.startswith(f"retrain digits: waits for process {holder.pid} on {socket.gethostname()}, since 20")
        assert line.endswith(f": prune digits (lock {lock})")
    finally:
        if end == "is killed":
            holder.send_signal(signal.SIGKILL)
        else:
            holder.stdin.write("\n")
            holder.stdin.flush()
        thread.join(60)
    assert done.is_set()
    # A killed process leaves nothing that names it as a holder.
    assert not lock.with_suffix(".holder").exists()


@pytest.mark.processes
def test_a_lock_that_is_taken_is_seen_and_waited_for_no_longer_than_asked(holder: subprocess.Popen, lock: Path) -> None:
    assert is_taken(lock)
    with pytest.raises(Timeout), locked(lock, "reading", timeout=0.2):
        pass
    holder.communicate("\n")
    assert not is_taken(lock)


def test_a_free_lock_is_held_in_silence_and_said_to_be(lock: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "analysis"), locked(lock, "baseline"):
        held = json.loads(lock.with_suffix(".holder").read_text())
        assert (held["pid"], held["host"], held["doing"]) == (os.getpid(), socket.gethostname(), "baseline")
        assert is_taken(lock)
    assert not is_taken(lock)
    assert caplog.messages == []
