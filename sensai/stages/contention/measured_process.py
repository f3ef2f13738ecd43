"""One process of the experiment, as `started_together` starts it.

Usage: `python -m sensai.stages.contention.measured_process PARENT FOLDER SCRIPT TASK NUMBER...`.

It works on the first batch, answers with a line, waits for a line, works on all images, and answers with the time that it took.
"""

import importlib
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sensai.cluster.processes import end_with

if TYPE_CHECKING:
    from sensai.stages.contention.work import Work


def main(parent: int, folder: Path, script: str, task: str, numbers: list[int]) -> None:
    """Do the work of a script (`naive`, `engine` or `streamed`) and task (`training` or `scoring`) with these members."""
    # The workers of a loader end with their parent in the same way.
    end_with(parent, signal.SIGKILL)
    # The import of torch takes seconds, in which the parent may be gone, so it comes after `end_with`.
    from sensai.stages.contention.job import load_job, load_labels

    # Libraries and users' networks may print, which must not be taken for an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    job = load_job(folder)
    # Only one script is imported, so that it does not wait for the imports of the other.
    module = importlib.import_module(f"sensai.stages.contention.{script}")
    work: Work = getattr(module, task)(folder, job, numbers)
    work(job.batch_size if task == "training" else job.scoring_batch)
    print("{}", file=answers, flush=True)
    sys.stdin.readline()
    spent = work(len(load_labels(folder)))
    print(json.dumps({**asdict(spent), "threads": module.threads(job, task, numbers)}), file=answers, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], [int(number) for number in sys.argv[5:]])
