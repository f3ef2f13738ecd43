"""Limits for all tests here: readers of broken input need little memory and time."""

import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

MORE_BYTES = 2 * 2**30
# Far more than any test needs on a loaded machine.
SECONDS = 400


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    """Raise MemoryError for gigabytes, and TimeoutError for a hang."""

    def hung(*_: object) -> None:
        raise TimeoutError(f"still running after {SECONDS} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MORE_BYTES, before[1]))
    handler = signal.signal(signal.SIGALRM, hung)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    resource.setrlimit(resource.RLIMIT_AS, before)
