"""Slots as processes of this machine."""

import os
import signal
from collections.abc import Sequence

from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool

from sensai.processes import end_with
from sensai.retraining.slots import SlotJob, SlotLostError, run_slot


def run_locally(jobs: Sequence[SlotJob]) -> dict[int, str]:
    """Run slots side by side on this machine; one alone runs in this process.

    Returns:
        Member -> why it failed twice.

    Raises:
        SlotLostError: a process was killed, for want of memory perhaps; the others have been ended too.
    """
    if len(jobs) == 1:
        return run_slot(jobs[0])
    try:
        # Libraries count their threads when they are imported, which the processes do once. A process may lose its parent
        # before it has a job, so it is told of it at once.
        with parallel_config(
            "loky",
            n_jobs=len(jobs),
            inner_max_num_threads=jobs[0].threads,
            initializer=end_with,
            initargs=(os.getpid(), signal.SIGKILL),
        ):
            results = Parallel(batch_size=1, pre_dispatch="all")(delayed(run_slot)(job) for job in jobs)
    except BrokenProcessPool as error:
        raise SlotLostError(" ".join(str(error).split())) from error
    finally:
        get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)
    return {number: reason for failures in results for number, reason in failures.items()}
