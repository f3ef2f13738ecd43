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
    """Run workers side by side on this machine; a single worker runs in this process.

    Returns:
        Member -> why it failed twice.

    Raises:
        WorkerLostError: a process was killed, perhaps for lack of memory; the others have been ended too.
    """
    results = in_processes(run_worker, jobs, jobs[0].threads)
    return {number: reason for failures in results for number, reason in failures.items()}


def in_processes(run: Callable[[JobT], ResultT], jobs: Sequence[JobT], threads: int) -> list[ResultT]:
    """Return the result of every job. Each runs in a process of its own that ends with this one; a single job runs here.

    Args:
        run: a function at the top level of a module.
        jobs: one for each process.
        threads: of every library in each process.

    Raises:
        WorkerLostError: as of `run_locally`.
    """
    if len(jobs) == 1:
        return [run(jobs[0])]
    done = False
    try:
        # Libraries count their threads when a process imports them, so the count is given before. A process may lose its parent
        # before it gets a job, or even imports torch, so the initializer watches the parent from the start.
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
        # A killed process leaves the lock of its progress bar behind, of which Python warns. Finished ones end by themselves.
        get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=not done)
