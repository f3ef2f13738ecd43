"""Many members retrained at once: on one stream of batches, one after another, and as naive processes.

python benchmarks/retraining.py [--arch resnet20] [--members 1 4 10] [--images 1024] [--batch 64]

(a) one after another, each with its own batches; (b) as many processes at once, each with its own batches and default
threads, timed from when all are ready; (c) the engine: every batch made once for all. Binary members of random weights, cut to
half of their channels, on random 32x32 images with crops and mirroring. Figures are members x images a second.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from torch import nn

from sensai.data.batches import Normalization, steps_per_epoch, training_batches
from sensai.data.dataset import Split
from sensai.evaluation import host
from sensai.models.factory import NetworkSpec, build
from sensai.pruning import member_network
from sensai.retraining.fitting import fit
from sensai.retraining.objectives import Objective
from sensai.retraining.trainee import Recipe, Trainee
from sensai.sites import find_sites

_CLASSES = 10
_RECIPE = Recipe(epochs=1, lr=0.01, weight_decay=5e-4, patience=0, min_gain=0.0, metric="balanced_accuracy")
_NORMALIZATION = Normalization((0.5,) * 3, (0.25,) * 3)
# Seconds in which a process must have imported and made its network.
_READY_SECONDS = 25


def main() -> None:
    """Print a table for people and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--members", type=int, nargs="*", default=[1, 4, 10])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--naive", type=float, help="for the processes of (b): when to begin")
    arguments = parser.parse_args()
    if arguments.naive is not None:
        _naive(arguments)
        return
    rows = [{"members": count, **_measured(arguments, count)} for count in arguments.members]
    print(f"{arguments.arch}: members x images a second")
    print(
        f"{'members':>7} {'(a) in turn':>12} {'(b) naive':>12} {'(c) engine':>12} {'(c)/(a)':>8} {'(c)/(b)':>8} {'data':>7}"
    )
    for row in rows:
        print(
            f"{row['members']:7} {row['in_turn']:12.0f} {row['naive']:12.0f} {row['engine']:12.0f} "
            f"{row['engine'] / row['in_turn']:8.2f} {row['engine'] / row['naive']:8.2f} {row['data_share']:7.1%}"
        )
    print(json.dumps({"benchmark": "retraining", "arch": arguments.arch, "host": host(), "rows": rows}))


def _measured(arguments: argparse.Namespace, count: int) -> dict[str, float]:
    split = _split(arguments.images)
    work = count * arguments.images
    with tempfile.TemporaryDirectory() as folder:
        _train(arguments.arch, [0], split, arguments.batch, Path(folder) / "warm")
        in_turn = sum(
            _train(arguments.arch, [number], split, arguments.batch, Path(folder) / "a") for number in range(count)
        )
        engine = _train(arguments.arch, list(range(count)), split, arguments.batch, Path(folder) / "c")
    start = time.perf_counter()
    for _ in _batches(split, arguments.batch)(0):
        pass
    data = time.perf_counter() - start
    return {
        "in_turn": work / in_turn,
        "naive": work / _naive_seconds(arguments, count),
        "engine": work / engine,
        "data_share": data / engine,
    }


def _split(images: int) -> Split:
    generator = np.random.default_rng(0)
    labels = np.arange(images) % _CLASSES
    return Split(generator.integers(0, 256, (images, 3, 32, 32), np.uint8), labels, np.arange(images))


def _batches(split: Split, batch: int) -> partial:
    return partial(
        training_batches, split, batch, _NORMALIZATION, torch.device("cpu"), augmentation="crop_flip", seed=0
    )


def _member(arch: str, number: int) -> nn.Module:
    spec = NetworkSpec(arch, _CLASSES, 3, (32, 32))
    torch.manual_seed(number)
    model = build(spec)
    sites = find_sites(model, torch.zeros(1, *spec.input_shape)).within("inner")
    plan = {site.name: np.arange(site.channels // 2) for site in sites.sites}
    return member_network(model, sites, plan, (number,), _CLASSES)


def _train(arch: str, numbers: list[int], split: Split, batch: int, folder: Path) -> float:
    """Seconds of an epoch of these members on one stream."""
    trainees = [
        Trainee(
            _member(arch, number),
            Objective.balanced((number,), _CLASSES, split.labels),
            _RECIPE,
            steps_per_epoch(split, batch),
            folder / f"{number}.safetensors",
        )
        for number in numbers
    ]
    start = time.perf_counter()
    fit(trainees, _batches(split, batch), None, lambda *_: None)
    return time.perf_counter() - start


def _naive_seconds(arguments: argparse.Namespace, count: int) -> float:
    begin = time.time() + _READY_SECONDS * max(1, count // 2)
    command = [sys.executable, __file__, "--arch", arguments.arch, "--naive", str(begin)]
    command += ["--images", str(arguments.images), "--batch", str(arguments.batch)]
    processes = [
        subprocess.Popen([*command, "--members", str(number)], stdout=subprocess.DEVNULL) for number in range(count)
    ]
    if any(process.wait() for process in processes):
        raise RuntimeError("a naive process failed; it may not have been ready in time")
    return time.time() - begin


def _naive(arguments: argparse.Namespace) -> None:
    split = _split(arguments.images)
    (number,) = arguments.members
    _member(arguments.arch, number)
    wait = arguments.naive - time.time()
    if wait < 0:
        sys.exit("not ready in time")
    time.sleep(wait)
    with tempfile.TemporaryDirectory() as folder:
        _train(arguments.arch, [number], split, arguments.batch, Path(folder))


if __name__ == "__main__":
    main()
