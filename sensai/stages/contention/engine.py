"""Train and score as sensAI does: workers that share their batches, with pinned threads; one pass for all classes.

Images come from the decoded array, or from files where there is none; `streamed` reads files in any case.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from sensai.activations import ActivationReader
from sensai.cluster.cores import deal, pinned, share_cores
from sensai.data.batches import batches, steps_per_epoch, training_batches
from sensai.data.dataset import Dataset, Split
from sensai.ensemble import Ensemble
from sensai.evaluation import size
from sensai.sites import find_sites
from sensai.stages.contention.job import Job, load_base, load_members, load_split
from sensai.stages.contention.work import Spent, Work, timed
from sensai.training.members import Workers, retrain_members
from sensai.training.training_config import BatchConfig, OptimizerConfig, TrainingConfig

# Returns the first images of a job, as many as it is given.
LoadSplit = Callable[[Path, Job, int], Split]

_OPTIMIZER = OptimizerConfig(epochs=1, lr=0.01, weight_decay=5e-4, metric="balanced_accuracy")


def training(folder: Path, job: Job, numbers: Sequence[int], load: LoadSplit = load_split) -> Work:
    """Return the work of retraining members for an epoch."""
    ensemble, device = load_members(folder, numbers), torch.device(job.device)
    workers = _workers(ensemble, job)
    config = BatchConfig(job.batch_size, job.augmentation, seed=0)
    made = partial(training_batches, augmentation=config.augmentation, seed=config.seed)

    def epoch(count: int) -> Spent:
        train = load(folder, job, count)
        seconds = _retrain(ensemble, train, config, workers, folder)
        # Every worker makes these batches for itself, so making them once more gives the time that they take.
        with pinned(workers.threads):
            data = timed(
                made(train, config.batch_size, ensemble.normalization, device, epoch=0), device, lambda *_: None
            )
        return Spent(seconds, data.seconds, steps_per_epoch(train, config.batch_size))

    return epoch


def scoring(folder: Path, job: Job, numbers: Sequence[int], load: LoadSplit = load_split) -> Work:
    """Return the work of one pass for the statistics of all classes; it stands for as many passes as there are numbers."""
    ensemble, device = load_members(folder, numbers), torch.device(job.device)
    model = load_base(folder).to(device)
    read = partial(batches, batch_size=job.scoring_batch, normalization=ensemble.normalization, device=device)
    example, _ = next(read(load(folder, job, job.scoring_batch)))
    reader = ActivationReader(model, find_sites(model, example).sites, example, len(ensemble.class_names))
    return lambda count: timed(read(load(folder, job, count)), device, reader.read)


def threads(job: Job, task: str, numbers: Sequence[int]) -> int:
    """Return the number of threads of all workers, or of the one process that scores."""
    if task == "scoring":
        return torch.get_num_threads()
    jobs, each = share_cores(len(numbers), job.jobs, job.threads)
    return jobs * each


def _workers(ensemble: Ensemble, job: Job) -> Workers:
    jobs, threads = share_cores(len(ensemble.members), job.jobs, job.threads)
    costs = [size(member.network, ensemble.spec.input_shape).flops for member in ensemble.members]
    return Workers(deal(costs, jobs), [torch.device(job.device)] * jobs, threads)


def _retrain(ensemble: Ensemble, train: Split, config: BatchConfig, workers: Workers, folder: Path) -> float:
    """Train all members for an epoch; return the seconds of the worker that trained longest, from its first batch on."""
    mean, std = ensemble.normalization.mean, ensemble.normalization.std
    dataset = Dataset("", ensemble.class_names, train, None, None, "", mean, std)
    with tempfile.TemporaryDirectory(dir=folder) as checkpoints:
        histories = retrain_members(
            ensemble,
            dataset,
            TrainingConfig(_OPTIMIZER, config),
            workers,
            teacher=None,
            folder=Path(checkpoints),
            on_epoch=lambda *_: None,
        )
    return max(sum(histories[number].seconds for number in members) for members in workers.members)
