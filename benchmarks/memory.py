"""Measure the gain of keeping freed memory: a process with default settings against one with those of the entry points.

python benchmarks/memory.py [--networks vgg19_bn resnet20 resnet110] [--batch 256] [--pairs 5] [--threads 2]

Weights and images (32x32) are random. `scoring` is a pass with the statistics of ten classes. `fp32` and `bf16` are a training
step, forward and backward. The two processes take turns, batch by batch. `kept` is the process that keeps freed memory. The
columns with `mib` are the peak memory of each process.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pandas as pd
import torch
from joblib import cpu_count

from sensai.activations import ActivationReader
from sensai.cluster.processes import allocator_settings, keep_memory
from sensai.evaluation import host
from sensai.models.factory import NetworkSpec, build
from sensai.models.layout import to_channels_last
from sensai.sites import find_sites
from sensai.training.precision import autocast

_CLASSES = 10
_WORK = ["scoring", "fp32", "bf16"]


def main() -> None:
    """Print a table for people and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["vgg19_bn", "resnet20", "resnet110"])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=cpu_count())
    arguments = parser.parse_args()
    if settings := allocator_settings():
        parser.error(f"{settings[0]} is set, so no process would have the default settings; unset it")
    rows = [_measure(arch, work, arguments) for arch in arguments.networks for work in _WORK]
    print(pd.DataFrame(rows).round(2).to_string(index=False))
    print(json.dumps({"benchmark": "memory", "host": host(), "rows": rows}))


def _measure(arch: str, work: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Return the milliseconds a batch and the peak MiB of each process, and the median of the pairs' ratios."""
    task = (arch, work, arguments.batch)
    with _process(None, arguments.threads) as default, _process(keep_memory, arguments.threads) as kept:
        pairs = [
            [each.submit(_seconds, *task).result() for each in (default, kept)] for _ in range(arguments.pairs + 1)
        ]
        mib = [each.submit(_peak_mib).result() for each in (default, kept)]
    # The first pair only warms up.
    seconds = pd.DataFrame(pairs[1:], columns=["default", "kept"])
    return {
        "network": arch,
        "work": work,
        **{f"{name}_ms": value for name, value in (seconds.median() * 1e3).items()},
        "default / kept": (seconds["default"] / seconds["kept"]).median(),
        "default_mib": mib[0],
        "kept_mib": mib[1],
    }


def _process(prepare: Callable[[], None] | None, threads: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, get_context("spawn"), _initialise, (prepare, threads))


def _initialise(prepare: Callable[[], None] | None, threads: int) -> None:
    if prepare is not None:
        prepare()
    torch.set_num_threads(threads)


def _seconds(arch: str, work: str, batch: int) -> float:
    call = _work(arch, work, batch)
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@cache
def _work(arch: str, work: str, batch: int) -> Callable[[], object]:
    torch.manual_seed(0)
    network = build(NetworkSpec(arch, _CLASSES, 3, (32, 32)))
    images = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    if work == "scoring":
        network.eval()
        reader = ActivationReader(network, find_sites(network, images[:2]).sites, images[:2], _CLASSES)
        return lambda: reader.read(images, torch.arange(batch) % _CLASSES)
    to_channels_last(network).train()

    def step() -> None:
        with autocast("bf16" if work == "bf16" else "fp32", images.device):
            loss = network(images).float().square().mean()
        loss.backward()
        network.zero_grad()

    return step


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
