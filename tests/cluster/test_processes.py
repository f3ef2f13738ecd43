"""Settings that processes pass on to those that they start."""

import json
import os
import platform
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from sensai.cluster.processes import allocator_settings, first_interrupt_asks, runs_command
from tests.conftest import ROOT


@pytest.mark.processes
@pytest.mark.parametrize(("of_the_user", "own", "given"), [(None, "passive", None), ("active", "active", "active")])
def test_threads_sleep_unless_the_user_says_otherwise(of_the_user: str | None, own: str, given: str | None) -> None:
    code = (
        "import json, os\n"
        "from sensai.cluster.processes import given_environment, let_threads_sleep\n"
        "let_threads_sleep()\n"
        "print(json.dumps([each.get('OMP_WAIT_POLICY') for each in (os.environ, given_environment())]))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": of_the_user} if of_the_user else {}
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert json.loads(printed.stdout) == [own, given]


@pytest.mark.parametrize(
    ("command_line", "runs"),
    [
        (["/usr/bin/python3", "/usr/bin/mlflow", "run", "."], True),
        (["python", "-m", "mlflow", "run", "."], True),
        (["mlflow", "run", "."], True),
        (["mlflow", "server"], False),
        (["bash", "run", "mlflow"], False),
        (["python", "a.py"], False),
        ([], False),
    ],
)
def test_a_command_of_a_program_is_recognised(command_line: list[str], runs: bool) -> None:
    assert runs_command(command_line, "mlflow", "run") is runs


# How many pages of memory are new to the process when 64 MiB are allocated a second time; without Python's own preparations.
_PAGES_ANEW = """
import resource

def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

b"x" * (64 << 20)
before = pages()
b"x" * (64 << 20)
print(pages() - before)
"""


@pytest.mark.processes
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told")
@pytest.mark.parametrize(
    ("of_the_user", "kept"),
    [
        ({}, True),
        ({"GLIBC_TUNABLES": "glibc.malloc.check=0"}, False),
        ({"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}, False),
    ],
)
def test_freed_memory_is_kept_unless_the_user_says_otherwise(of_the_user: dict[str, str], kept: bool) -> None:
    code = (
        "import os, subprocess, sys\n"
        "from sensai.cluster.processes import given_environment, keep_memory\n"
        "keep_memory()\n"
        f"code = {_PAGES_ANEW!r}\n"
        "exec(code)\n"
        "for environment in (os.environ, given_environment()):\n"
        "    subprocess.run([sys.executable, '-c', code], env=environment, check=True)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in allocator_settings()}
    printed = subprocess.run(
        [sys.executable, "-uc", code],
        cwd=ROOT,
        env=environment | of_the_user,
        capture_output=True,
        text=True,
        check=True,
    )
    own, started, without_sensai = (int(line) for line in printed.stdout.split())
    large = (64 << 20) // resource.getpagesize() // 2
    assert [own < large, started < large, without_sensai < large] == [kept, kept, False]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Restore the handling of a terminal, since processes that a script starts in the background ignore interrupts."""
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
