"""One live input: the base model, its members one by one and all together, each in the runtimes that this machine has.

python benchmarks/latency.py [--arch vgg19_bn resnet110] [--share 0.0556] [--round_to 16] [--scope all] [--members 2]
    [--threads 2] [--repeats 50] [--figure latency.html]

Random weights; binary members by random plans of at most `share` of the base model's FLOPs; 32x32 images, 224x224 for networks
of torchvision. Times are milliseconds from a raw image to outputs, medians of calls in turn: `base` and `ensemble` in their
fastest runtime, `member` the slowest member in its fastest, on one thread, as a machine for each member would see it. So
`critical` = base / member stands beside `flops` = FLOPs of the base model / of the largest member, and `ensemble` = base /
ensemble is what this machine gains. `overhead` = the ensemble's time with combining / its members' summed time over the
threads. `critical_cpu` is `critical` in processor time, base and member both on one thread in ONNX Runtime: what others
do on the same cores hits a call of milliseconds harder than a long one, and does not count there.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pandas as pd
import torch
from joblib import cpu_count
from plotly import express
from synthetic import random_statistics
from torch import nn

from sensai.data.batches import Normalization
from sensai.ensemble import Ensemble
from sensai.ensemble.calibration import RAW
from sensai.ensemble.members import build_ensemble
from sensai.evaluation import host
from sensai.models.factory import NetworkSpec, build
from sensai.policy import WidthRule, flops_plans, random_order
from sensai.runtimes import (
    Prepared,
    Runtime,
    Timing,
    fastest,
    in_turn,
    measure,
    open_runtime,
    prepare,
    prepare_base,
)
from sensai.sites import SizePrediction, find_sites


def main() -> None:
    """Print a table of runtimes and a table of ratios for people, and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=["vgg19_bn", "resnet110"])
    parser.add_argument("--share", type=float, default=1 / 18, help="a member's FLOPs / the base model's")
    parser.add_argument("--round_to", type=int, default=16, help="kept widths are multiples of it")
    parser.add_argument("--scope", choices=["inner", "all"], default="all", help="of the channels that may go")
    parser.add_argument("--threads", type=int, default=cpu_count())
    parser.add_argument("--members", type=int, help="as many as threads")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--figure", help="file (.html) for the ratios as bars")
    arguments = parser.parse_args()
    runtimes, ratios = [], []
    for arch in arguments.arch:
        timings, row = _measured(arch, arguments)
        runtimes += timings
        ratios.append(row)
    print(pd.DataFrame(runtimes).drop(columns="error").round(3).to_string(index=False, na_rep=""))
    table = pd.DataFrame(ratios)
    print(table.round(3).to_string(index=False))
    print(", ".join(f"{key}: {value}" for key, value in host().items()))
    if arguments.figure:
        express.bar(table, x="arch", y=["flops", "critical", "ensemble"], barmode="group").write_html(arguments.figure)
    print(json.dumps({"benchmark": "latency", "host": host(), "runtimes": runtimes, "rows": ratios}))


def _measured(arch: str, arguments: argparse.Namespace) -> tuple[list[dict[str, object]], dict[str, object]]:
    """A row for each runtime of base model, ensemble and largest member; and the row of what the fastest give in turn."""
    model, ensemble = _networks(arch, arguments)
    base, members = prepare_base(model, ensemble), prepare(ensemble)
    image = np.random.default_rng(0).integers(0, 256, (1, *ensemble.spec.image_size, 3), np.uint8)
    largest = max(members.alone(), key=lambda alone: alone.members[0].flops)

    def timed(prepared: Prepared, *threads: int) -> list[Timing]:
        return [each for count in threads for each in measure(prepared, image, count, repeats=arguments.repeats)]

    counts = sorted({1, arguments.threads})
    tables = {"base": timed(base, *counts), "ensemble": timed(members, *counts), "member": timed(largest, 1)}
    chosen = {name: fastest(timings) for name, timings in tables.items()}
    with ExitStack() as stack:

        def opened(prepared: Prepared, name: str) -> Runtime:
            return stack.enter_context(open_runtime(chosen[name].runtime, prepared, chosen[name].threads))

        whole = opened(members, "ensemble")
        calls: dict[str, Callable[[], object]] = {
            "base": partial(opened(base, "base"), image),
            "ensemble": lambda: RAW(whole(image), ensemble.groups),
            **{
                f"member {number}": partial(opened(alone, "member"), image)
                for number, alone in enumerate(members.alone())
            },
        }
        seconds = in_turn(calls, arguments.repeats)
    row = {"arch": arch, "members": len(members.members), "flops": base.members[0].flops / largest.members[0].flops}
    rows = [{"arch": arch, "network": name, **asdict(each)} for name, timings in tables.items() for each in timings]
    return rows, row | _ratios(seconds, arguments.threads) | _processor_time(base, members, image, arguments.repeats)


def _ratios(seconds: dict[str, np.ndarray], threads: int) -> dict[str, float]:
    ms = {name: float(np.median(each) * 1e3) for name, each in seconds.items()}
    members = [value for name, value in ms.items() if name.startswith("member")]
    return {
        "base_ms": ms["base"],
        "member_ms": max(members),
        "ensemble_ms": ms["ensemble"],
        "critical": ms["base"] / max(members),
        "ensemble": ms["base"] / ms["ensemble"],
        "overhead": ms["ensemble"] * threads / sum(members),
    }


def _processor_time(base: Prepared, members: Prepared, image: np.ndarray, repeats: int) -> dict[str, float]:
    with ExitStack() as stack:
        calls = {
            str(number): partial(stack.enter_context(open_runtime("onnx-sessions", alone, 1)), image)
            for number, alone in enumerate([base, *members.alone()])
        }
        own, *others = (float(np.median(each) * 1e3) for each in in_turn(calls, repeats, time.process_time).values())
    return {"base_cpu_ms": own, "member_cpu_ms": max(others), "critical_cpu": own / max(others)}


def _networks(arch: str, arguments: argparse.Namespace) -> tuple[nn.Module, Ensemble]:
    """A base model and binary members with random plans."""
    classes, side = (1000, 224) if arch.startswith("torchvision:") else (10, 32)
    spec = NetworkSpec(arch, classes, 3, (side, side))
    torch.manual_seed(0)
    model = build(spec).eval()
    sites = find_sites(model, torch.zeros(2, *spec.input_shape)).within(arguments.scope)
    size = SizePrediction(model, sites, spec.input_shape)
    statistics = random_statistics(sites, classes)
    groups = [(label,) for label in range(arguments.members or arguments.threads)]
    plans = flops_plans(
        [random_order(0)(statistics, group) for group in groups],
        flops=lambda removed: size.at(removed, 1)[1],
        target=arguments.share * size.flops,
        ranking="layer",
        rule=WidthRule(round_to=arguments.round_to),
    )
    names = tuple(str(label) for label in range(classes))
    normalization = Normalization((0.5,) * 3, (0.25,) * 3)
    return model, build_ensemble(model, spec, sites, list(zip(groups, plans, strict=True)), names, normalization).eval()


if __name__ == "__main__":
    main()
