"""Check that processes that a test has ended are gone."""

from collections.abc import Sequence

import psutil


def still_running(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return the processes that have not ended after so long.

    An ended process stays listed until its new parent reads its exit status. In containers that may be late or never
    happen, and it does not concern the program that the process belonged to.
    """
    _, listed = psutil.wait_procs(processes, timeout=seconds)
    return [process for process in listed if _runs(process)]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False
