"""Train and score as sensAI does with image folders that are too large to be decoded to disk.

One loader in each worker decodes a batch for all of its members.
"""

from collections.abc import Sequence
from pathlib import Path

from sensai.stages.contention import engine
from sensai.stages.contention.job import Job, load_files
from sensai.stages.contention.work import Work

threads = engine.threads


def training(folder: Path, job: Job, numbers: Sequence[int]) -> Work:
    """Return the work of retraining members for an epoch."""
    return engine.training(folder, job, numbers, load_files)


def scoring(folder: Path, job: Job, numbers: Sequence[int]) -> Work:
    """Return the work of one pass for the statistics of all classes."""
    return engine.scoring(folder, job, numbers, load_files)
