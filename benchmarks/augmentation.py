"""Measure the batches of a training: with each random change of the images, against the plain ones.

python benchmarks/augmentation.py [--sides 32 224] [--batch 64] [--batches 4] [--repeats 5] [--threads 1]

Images are random and in memory. The times are milliseconds for one batch on the CPU; each is the median of repeats that
alternate between the ways. A worker makes each batch once for all its members.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pandas as pd
import torch

from sensai.data.batches import Normalization, training_batches
from sensai.data.dataset import Split
from sensai.data.transforms import Mixing
from sensai.evaluation import host
from sensai.runtimes import in_turn

_CLASSES = 10
_NORMALIZATION = Normalization((0.5,) * 3, (0.25,) * 3, torch.channels_last)
_WAYS: dict[str, dict[str, object]] = {
    "none": {"augmentation": "none"},
    "crop_flip": {"augmentation": "crop_flip"},
    "mixup": {"augmentation": "crop_flip", "mixing": Mixing("mixup", 1.0, _CLASSES)},
    "cutmix": {"augmentation": "crop_flip", "mixing": Mixing("cutmix", 1.0, _CLASSES)},
    "trivialaugment": {"augmentation": "crop_flip", "auto_augment": "trivialaugment"},
}


def main() -> None:
    """Print a table for people and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", type=int, default=[32, 224])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [row for side in arguments.sides for row in _measure(side, arguments)]
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    print(", ".join(f"{key}: {value}" for key, value in host().items()))
    print(json.dumps({"benchmark": "augmentation", "host": host(), "rows": rows}))


def _measure(side: int, arguments: argparse.Namespace) -> list[dict[str, object]]:
    count = arguments.batch * arguments.batches
    images = np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    split = Split(images, np.arange(count) % _CLASSES, np.arange(count))
    calls = {name: _epoch(split, arguments.batch, given) for name, given in _WAYS.items()}
    times = in_turn(calls, arguments.repeats)
    milliseconds = {name: float(np.median(each)) * 1e3 / arguments.batches for name, each in times.items()}
    return [
        {"side": side, "way": name, "batch_ms": each, "image_us": each * 1e3 / arguments.batch}
        for name, each in milliseconds.items()
    ]


def _epoch(split: Split, batch_size: int, given: dict[str, object]) -> Callable[[], None]:
    """Return a call that makes the batches of one epoch."""
    make = partial(training_batches, split, batch_size, _NORMALIZATION, torch.device("cpu"), 0, seed=0, **given)

    def call() -> None:
        for _ in make():
            pass

    return call


if __name__ == "__main__":
    main()
