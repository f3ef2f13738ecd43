"""Start processes at once, let them work together, ask for the time that they took, and end them in any case."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import psutil

import sensai
from sensai.cluster.processes import given_environment
from sensai.errors import InputError

_ROOT = Path(sensai.__file__).resolve().parents[1]
# Libraries take their number of threads from these.
_THREAD_VARIABLES = frozenset({"OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"})
_MEMORY_SECONDS = 0.5
_MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """Processes that ran at once.

    Attributes:
        start_s: seconds from their start until all have worked on their first batch.
        seconds: that the slowest then takes for all images.
        step_ms: mean milliseconds from one step of a process to its next.
        data_share: mean share of the time in which a process waited for a batch (see `work.Spent`).
        peak_mib: the most memory of all together, loaders' workers included; what they share counts once.
        threads: how many threads and workers they ask for in sum.
    """

    start_s: float
    seconds: float
    step_ms: float
    data_share: float
    peak_mib: float
    threads: int


def at_once(
    folder: Path, script: str, task: str, groups: Sequence[Sequence[int]], threads: int | None = None
) -> Measured:
    """Run one process for each group of members, all at once; none is left when this ends, nor when it is killed.

    Args:
        folder: of a saved job.
        script: `naive`, `engine` or `streamed`.
        task: `training` or `scoring`.
        groups: the numbers of each process's members.
        threads: number that the environment gives each process's libraries; None: it gives none, as by default.

    Raises:
        InputError: processes failed; says which, with the last line of each one's errors.
    """
    start = time.perf_counter()
    with _started(folder, script, task, groups, threads) as processes, _Memory(processes) as memory:
        _answers(processes, folder, f"{script} {task}")
        start_s = time.perf_counter() - start
        for process in processes:
            # One that has died by now gives no answer either.
            with suppress(BrokenPipeError):
                _tell(process)
        answers = _answers(processes, folder, f"{script} {task}")
    return Measured(
        start_s=start_s,
        seconds=max(each["seconds"] for each in answers),
        step_ms=1e3 * float(np.mean([each["seconds"] / each["steps"] for each in answers])),
        data_share=float(np.mean([each["data_seconds"] / each["seconds"] for each in answers])),
        peak_mib=memory.peak / _MIB,
        threads=sum(each["threads"] for each in answers),
    )


@contextmanager
def _started(
    folder: Path, script: str, task: str, groups: Sequence[Sequence[int]], threads: int | None
) -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    try:
        for position, numbers in enumerate(groups):
            command = [sys.executable, "-m", "sensai.stages.contention.measured_process", str(os.getpid())]
            command += [str(folder), script, task, *map(str, numbers)]
            with _last_words(folder, position).open("w") as errors:
                processes.append(_start(command, _environment(script, threads), errors))
        yield processes
    finally:
        for process in processes:
            _end(process)


def _start(command: list[str], environment: dict[str, str], errors: Any) -> subprocess.Popen[str]:
    """Start a process with pipes to it and from it, in a group of its own."""
    return subprocess.Popen(  # noqa: S603  (our own command)
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=environment,
        text=True,
        start_new_session=True,
    )


def _environment(script: str, threads: int | None) -> dict[str, str]:
    """Return the environment of a process; a naive script gets none of sensAI's own settings."""
    inherited = given_environment() if script == "naive" else dict(os.environ)
    own = {name: value for name, value in inherited.items() if name not in _THREAD_VARIABLES}
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    return {**own, "PYTHONPATH": path} | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})


def _end(process: subprocess.Popen[str]) -> None:
    """Kill what is left of a process and of its loader's workers, which share its group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _answers(processes: Sequence[subprocess.Popen[str]], folder: Path, what: str) -> list[dict[str, Any]]:
    """Return the next line of each process, once all have answered."""
    lines = [process.stdout.readline() if process.stdout else "" for process in processes]
    failed = [position for position, line in enumerate(lines) if not line]
    if failed:
        reasons = "; ".join(f"{position}: {_reason(processes[position], folder, position)}" for position in failed)
        raise InputError(f"{what}, of {len(processes)} processes failed {reasons}")
    return [json.loads(line) for line in lines]


def _reason(process: subprocess.Popen[str], folder: Path, position: int) -> str:
    status = process.wait()
    lines = _last_words(folder, position).read_text().strip().splitlines()
    return lines[-1] if lines else f"status {status}"


def _last_words(folder: Path, position: int) -> Path:
    """Return the file of a process's errors."""
    return folder / f"errors_{position}.txt"


class _Memory:
    """Watches the memory of processes and all below them while the block lasts."""

    def __init__(self, processes: Sequence[subprocess.Popen[str]]) -> None:
        self._pids = [process.pid for process in processes]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.peak = 0.0

    def __enter__(self) -> "_Memory":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_MEMORY_SECONDS):
            self.peak = max(self.peak, sum(_memory(pid) for pid in self._pids))


def _memory(pid: int) -> float:
    """Return the bytes of a process and all below it; on Linux, pages that several share are split among them."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                usage = each.memory_full_info()
                total += getattr(usage, "pss", usage.uss)
    return total
