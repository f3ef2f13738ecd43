"""Measure the cost of live curves: every epoch of every member logged to MLflow while it trains.

python benchmarks/live.py [--arch resnet20] [--members 10] [--images 1024] [--epochs 4] [--repeats 3] [--share 0.125]
    [--round_to 1] [--scope all]

Binary members have random weights and random plans, and at most `share` of the base model's FLOPs. Two workers of one thread
train them on random 32x32 images. Trainings alternate: `logged` writes every epoch of every member to a new SQLite store, and
`unlogged` writes nothing. `own_cpu_s` is the processor time of this process, `workers_cpu_s` that of the workers. All are
medians. `extra` is the additional processor time of this process when it logs, as a share of the workers' time.
"""

import argparse
import copy
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import mlflow
import numpy as np
import pandas as pd
import torch
from synthetic import add_member_arguments, random_ensemble

from sensai.cluster.cores import deal
from sensai.data.dataset import Dataset, Split
from sensai.ensemble import Ensemble
from sensai.evaluation import host
from sensai.tracking import Run, Store
from sensai.training.members import Workers, retrain_members
from sensai.training.training_config import BatchConfig, OptimizerConfig, TrainingConfig

_WORKERS = 2


def main() -> None:
    """Print a table for people and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet20")
    add_member_arguments(parser, share=0.125, round_to=1)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    _, ensemble = random_ensemble(
        arguments.arch, arguments.share, arguments.round_to, arguments.scope, arguments.members
    )
    dataset = _random_dataset(arguments.images, ensemble)
    with tempfile.TemporaryDirectory() as folder:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        store = Store.connect()
        rows = []
        for _ in range(arguments.repeats):
            rows.append({"way": "unlogged"} | _train(ensemble, dataset, arguments.epochs, []))
            runs = [store.create(f"member {number}", None) for number in range(arguments.members)]
            rows.append({"way": "logged"} | _train(ensemble, dataset, arguments.epochs, runs))
    medians = pd.DataFrame(rows).groupby("way").median()
    own, workers = medians["own_cpu_s"], medians["workers_cpu_s"]
    extra = (own["logged"] - own["unlogged"]) / workers["unlogged"]
    print(medians.round(2).to_string())
    print(f"extra: {extra:.4f}, seconds logged / unlogged: {medians['s']['logged'] / medians['s']['unlogged']:.3f}")
    print(", ".join(f"{key}: {value}" for key, value in host().items()))
    print(json.dumps({"benchmark": "live", "arch": arguments.arch, "host": host(), "extra": extra, "rows": rows}))


def _random_dataset(images: int, ensemble: Ensemble) -> Dataset:
    generator, classes = np.random.default_rng(0), len(ensemble.class_names)

    def split(count: int) -> Split:
        pixels = generator.integers(0, 256, (count, *ensemble.spec.input_shape), np.uint8)
        return Split(pixels, np.arange(count) % classes, np.arange(count))

    mean, std = ensemble.normalization.mean, ensemble.normalization.std
    return Dataset("random", ensemble.class_names, split(images), split(images // 9), None, "random", mean, std)


def _train(ensemble: Ensemble, dataset: Dataset, epochs: int, runs: Sequence[Run]) -> dict[str, float]:
    """Return the wall time, and the processor times of this process and of the workers. Without runs nothing is logged."""
    members = deal([1.0] * len(ensemble.members), _WORKERS)
    workers = Workers(members, [torch.device("cpu")] * _WORKERS, threads=1)
    config = TrainingConfig(
        OptimizerConfig(epochs, lr=0.01, weight_decay=5e-4, metric="balanced_accuracy"),
        BatchConfig(128, "crop_flip", 0),
    )

    def log_epoch(number: int, epoch: int, metrics: dict[str, float]) -> None:
        runs[number].log_metrics({f"curve/{name}": value for name, value in metrics.items()}, epoch)

    with tempfile.TemporaryDirectory() as folder:
        before, start = _cpu_seconds(), time.perf_counter()
        with ExitStack() as open_runs:
            for run in runs:
                open_runs.enter_context(run.closing())
            retrain_members(
                copy.deepcopy(ensemble),
                dataset,
                config,
                workers,
                teacher=None,
                folder=Path(folder),
                on_epoch=log_epoch if runs else lambda *_: None,
            )
        own, children = (after - earlier for after, earlier in zip(_cpu_seconds(), before, strict=True))
    return {"s": time.perf_counter() - start, "own_cpu_s": own, "workers_cpu_s": children}


def _cpu_seconds() -> tuple[float, float]:
    """Return the processor times of this process, and of its children that have ended."""
    each = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    own, children = (usage.ru_utime + usage.ru_stime for usage in each)
    return own, children


if __name__ == "__main__":
    main()
