"""Whether processes that a test has ended are gone."""

from collections.abc import Sequence

import psutil


def still_running(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that have not ended after so long.

    One that has ended stays listed until whoever has taken it over asks for its exit status, which in containers may be late
    or never: that is no affair of the program that it belonged to.
    """
    _, listed = psutil.wait_procs(processes, timeout=seconds)
    return [process for process in listed if _runs(process)]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False
