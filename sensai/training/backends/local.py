"""Workers as processes of this machine."""

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool

from sensai.cluster.processes import begin_worker
from sensai.training.workers import WorkerJob, WorkerLostError, run_worker

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")


def run_locally(jobs: Sequence[WorkerJob]) -> dict[int, str]:
    """Run workers side by side on this machine; one alone runs in this process.

    Returns:
        Member -> why it failed twice.

    Raises:
        WorkerLostError: a process was killed, for want of memory perhaps; the others have been ended too.
    """
    results = in_processes(run_worker, jobs, jobs[0].threads)
    return {number: reason for failures in results for number, reason in failures.items()}


def in_processes(run: Callable[[JobT], ResultT], jobs: Sequence[JobT], threads: int) -> list[ResultT]:
    """What every job gives, each in a process of its own that ends with this one; one alone in this process.

    Args:
        run: at the top level of a module.
        jobs: as many as there shall be processes.
        threads: of every library in each process.

    Raises:
        WorkerLostError: as of `run_locally`.
    """
    if len(jobs) == 1:
        return [run(jobs[0])]
    done = False
    try:
        # Libraries count their threads when they are imported, which the processes do once. A process may lose its parent
        # before it has a job, or even torch, so it is told of it at once.
        with parallel_config(
            "loky",
            n_jobs=len(jobs),
            inner_max_num_threads=threads,
            initializer=begin_worker,
            initargs=(os.getpid(),),
        ):
            results = list(Parallel(batch_size=1, pre_dispatch="all")(delayed(run)(job) for job in jobs))
        done = True
        return results
    except BrokenProcessPool as error:
        raise WorkerLostError(" ".join(str(error).split())) from error
    finally:
        # One that is killed leaves the lock of its progress bar behind, of which Python warns; one that is done just ends.
        get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=not done)
