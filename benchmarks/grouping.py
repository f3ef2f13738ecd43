"""Measure each grouping method on a thousand classes: its time, its memory, and its groups' FLOPs against random groups.

python benchmarks/grouping.py [--arch torchvision:resnet50] [--classes 1000] [--groups 10] [--methods min_flops,kmeans]

Weights and statistics are random. Some classes have similar statistics, so that good groups exist. The statistics are in memory
before the clock starts. Each method runs in a process of its own; `MiB before` and `MiB peak` are the memory of that process.
`GFLOPs max` is the largest member of the groups, and `against random` its FLOPs / those of the largest member of random groups.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from sensai.activations import SiteStatistics, Statistics
from sensai.evaluation import host
from sensai.grouping.costs import MemberCosts
from sensai.grouping.grouping_inputs import GroupingInputs, form_groups
from sensai.grouping.methods import METHODS
from sensai.grouping.samples import sample_groups
from sensai.models.factory import NetworkSpec, build
from sensai.sites import SiteMap, SizePrediction, find_sites

_RATIO = 0.5
_KINDS = 40


def main() -> None:
    """Print a table for people and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="torchvision:resnet50")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--groups", type=int, default=10)
    parser.add_argument("--methods", default=",".join(name for name in METHODS if "n_groups" in METHODS[name].uses))
    arguments = parser.parse_args()
    rows = []
    print(f"{'method':16} {'seconds':>8} {'MiB before':>11} {'MiB peak':>9} {'GFLOPs max':>11} {'against random':>15}")
    for method in arguments.methods.split(","):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            row = pool.submit(_measure, method, arguments.arch, arguments.classes, arguments.groups).result()
        rows.append(row)
        print(
            f"{method:16} {row['seconds']:8.2f} {row['mib_before']:11.0f} {row['mib_peak']:9.0f} "
            f"{row['flops_max'] / 1e9:11.4f} {row['flops_max'] / row['flops_random']:15.4f}",
            flush=True,
        )
    print(json.dumps({"benchmark": "grouping", "host": host(), **vars(arguments), "rows": rows}))


def _measure(method: str, arch: str, classes: int, n_groups: int) -> dict[str, float | str]:
    model = build(NetworkSpec(arch, classes, 3, (224, 224))).eval()
    sites = find_sites(model, torch.zeros(1, 3, 224, 224))
    prediction = SizePrediction(model, sites, (3, 224, 224))
    statistics = _statistics(sites, classes)
    # Writing 5 resets the peak of the memory (Linux, proc(5)), so that it covers the method alone.
    Path("/proc/self/clear_refs").write_text("5")
    before, start = _mib("VmRSS"), time.perf_counter()
    costs = MemberCosts(statistics, prediction, _RATIO)
    names = tuple(map(str, range(classes)))
    groups = form_groups(
        method,
        GroupingInputs(names, statistics, costs, costs.counts.coupling, costs.counts.coupling, n_groups=n_groups),
    )
    seconds, peak = time.perf_counter() - start, _mib("VmHWM")
    sampled = sample_groups(classes, n_groups, seed=0)
    (largest, _), (baseline, _) = costs.of(groups), costs.of(sampled)
    sizes = {"flops_max": largest, "flops_random": baseline, "channels": sites.channels}
    return {"method": method, "seconds": seconds, "mib_before": before, "mib_peak": peak, **sizes}


def _statistics(sites: SiteMap, classes: int) -> Statistics:
    """Return random statistics in which classes of one kind are similar.

    A channel has a usual APoZ. The APoZ of a kind of classes differs from it, and that of a class a little from its kind's.
    """
    generator = np.random.default_rng(0)
    kind = generator.integers(_KINDS, size=classes)
    statistics = {}
    for site in sites.sites:
        usual, special = generator.normal(size=site.channels), generator.normal(size=(_KINDS, site.channels))
        logits = usual + 0.7 * special[kind] + 0.3 * generator.normal(size=(classes, site.channels))
        zeros = (1_000_000 / (1 + np.exp(-logits))).astype(np.int64)
        magnitude = (1_000_000 - zeros) * generator.random(site.channels)
        statistics[site.name] = SiteStatistics(zeros, magnitude, np.full(classes, 1_000_000))
    return statistics


def _mib(field: str) -> float:
    """Return a field of this process's memory in MiB, from Linux's `/proc/self/status`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


if __name__ == "__main__":
    main()
