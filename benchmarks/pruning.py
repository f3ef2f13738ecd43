"""Measure the time from statistics to the file of a member: plan, prune, verify and save.

python benchmarks/pruning.py [--members 10]

Weights and statistics are random. Times are in seconds, medians over the members. `once` is the analysis of the network, which
serves all members. `verify` is the proof of the `prune` stage, which compares the pruned and the masked network on the same
images. `first / last` compares the first member with the last, `once / member` the analysis with one member.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from synthetic import random_statistics
from torch import nn

from sensai.activations import Statistics
from sensai.evaluation import host
from sensai.models.factory import NetworkSpec, build
from sensai.models.storage import save_network
from sensai.policy.plans import ratio_plan
from sensai.pruning import member_network, provable, pruning_error
from sensai.sites import SiteMap, find_sites
from sensai.stages.prune.prune_execution import PROOF_IMAGES

_NETWORKS = {"vgg19_bn": (10, 32), "torchvision:resnet50": (1000, 224)}
_RATIO = 0.5
_STEPS = ("plan", "prune", "verify", "save")


def main() -> None:
    """Print a table for people and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=10)
    members = parser.parse_args().members
    rows = [{"arch": arch, **_measure(arch, *shape, members)} for arch, shape in _NETWORKS.items()]
    print(
        f"{'network':22} {'once':>7} "
        + " ".join(f"{step:>7}" for step in _STEPS)
        + "  a member   first / last   once / member"
    )
    for row in rows:
        steps = " ".join(f"{row[step]:7.3f}" for step in _STEPS)
        print(
            f"{row['arch']:22} {row['once']:7.3f} {steps} {row['member']:9.3f} s {row['first_to_last']:13.2f} "
            f"{row['once'] / row['member']:15.2f}"
        )
    print(json.dumps({"benchmark": "pruning", "host": host(), "rows": rows}))


def _measure(arch: str, classes: int, side: int, members: int) -> dict[str, float]:
    spec = NetworkSpec(arch, classes, 3, (side, side))
    torch.manual_seed(0)
    model = build(spec).eval()
    images = torch.randn(PROOF_IMAGES, *spec.input_shape).to(memory_format=torch.channels_last)
    start = time.perf_counter()
    sites = provable(model, find_sites(model, images), images).within("inner")
    once = time.perf_counter() - start
    activations = random_statistics(sites, classes)
    timings = [_measure_member(model, spec, sites, activations, number, images) for number in range(members)]
    totals = [sum(timing.values()) for timing in timings]
    return {
        "once": once,
        **{step: statistics.median(timing[step] for timing in timings) for step in _STEPS},
        "member": statistics.median(totals),
        "first_to_last": totals[0] / totals[-1],
    }


def _measure_member(
    model: nn.Module, spec: NetworkSpec, sites: SiteMap, activations: Statistics, number: int, images: torch.Tensor
) -> dict[str, float]:
    moments = [time.perf_counter()]
    plan = ratio_plan(activations, [number], ratio=_RATIO)
    moments.append(time.perf_counter())
    member = member_network(model, sites, plan, (number,), spec.num_classes)
    moments.append(time.perf_counter())
    error, tolerance = pruning_error(model, sites, plan, images)
    moments.append(time.perf_counter())
    if error > tolerance:
        raise RuntimeError(f"{spec.arch}, member {number}: {error} > {tolerance}")
    with tempfile.TemporaryDirectory() as folder:
        save_network(member, spec, Path(folder))
        moments.append(time.perf_counter())
    return dict(zip(_STEPS, np.diff(moments).tolist(), strict=True))


if __name__ == "__main__":
    main()
