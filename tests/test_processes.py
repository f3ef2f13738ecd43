"""What processes pass on to those that they start."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from sensai.processes import first_interrupt_asks
from tests.conftest import ROOT


@pytest.mark.parametrize(("of_the_user", "own", "given"), [(None, "passive", None), ("active", "active", "active")])
def test_threads_sleep_unless_the_user_says_otherwise(of_the_user: str | None, own: str, given: str | None) -> None:
    code = (
        "import json, os\n"
        "from sensai.processes import given_environment, let_threads_sleep\n"
        "let_threads_sleep()\n"
        "print(json.dumps([each.get('OMP_WAIT_POLICY') for each in (os.environ, given_environment())]))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": of_the_user} if of_the_user else {}
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert json.loads(printed.stdout) == [own, given]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """As in a terminal; what a script starts in the background ignores interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_interrupt_asks_and_the_second_interrupts(interruptible: None) -> None:
    with first_interrupt_asks() as asked:
        assert not asked.is_set()
        signal.raise_signal(signal.SIGINT)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ignored_interrupts_stay_ignored(interruptible: None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with first_interrupt_asks() as asked:
        signal.raise_signal(signal.SIGINT)
        assert not asked.is_set()


def test_other_threads_get_no_signals() -> None:
    found = []

    def work() -> None:
        with first_interrupt_asks() as asked:
            found.append(asked.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
