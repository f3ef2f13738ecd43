"""Measure the latency of one live input: the base model, each member alone, and the ensemble, in every runtime of this machine.

python benchmarks/latency.py [--arch vgg19_bn resnet110] [--share 0.0556] [--round_to 16] [--scope all] [--dropped 0]
    [--members 2] [--threads 2] [--device cpu] [--repeats 50] [--figure latency.html]

Weights and plans are random. Binary members have at most `share` of the base model's FLOPs. They lack a share `dropped` of the
blocks beside residual connections; each value of `--dropped` gives a row. Images have 32x32 pixels, or 224x224 for networks of
torchvision. Times are milliseconds from a raw image to outputs: medians of calls that alternate between the networks.

- `base_ms`, `ensemble_ms`: the base model and all members, each in its fastest runtime.
- `member_ms`: the slowest member alone in its fastest runtime, as if each member had a machine like this one.
- `flops`: FLOPs of the base model / of the largest member.
- `critical`: base / member. Fewer FLOPs promise the factor `flops`; this is the factor in time.
- `ensemble`: base / ensemble, the gain on this machine.
- `overhead`: all members in `onnx-sessions`, combined / the same sessions without the runtime around them, on as many threads.
- `contention`: the same sessions on all threads at once / the slowest thread's share of them alone.
- `critical_cpu`: `critical` in processor time, base model and member on one thread in ONNX Runtime. Other work on the machine
  does not change it; in wall time such work slows short calls more than long ones.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensai.cluster.processes import let_threads_sleep

# Threads of torch would spin after a call, and keep the cores from the runtime that is timed next.
let_threads_sleep()

import numpy as np
import onnxruntime
import pandas as pd
from joblib import cpu_count
from plotly import express
from synthetic import add_member_arguments, combined, random_ensemble

from sensai.cluster.cores import deal
from sensai.ensemble import Ensemble
from sensai.evaluation import host
from sensai.runtimes import Prepared, candidates, compare, in_turn, open_runtime, prepare, prepare_base


def main() -> None:
    """Print a table of runtimes and a table of ratios for people, and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=["vgg19_bn", "resnet110"])
    add_member_arguments(parser)
    parser.add_argument("--dropped", type=float, nargs="+", default=[0.0], help="shares of the blocks to remove")
    parser.add_argument("--threads", type=int, default=cpu_count())
    parser.add_argument("--members", type=int, help="default: as many as threads")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="measure the runtimes of this device")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--figure", help="write a bar chart of the ratios to this file (.html)")
    arguments = parser.parse_args()
    runtimes, ratios = [], []
    for arch, dropped in product(arguments.arch, arguments.dropped):
        timings, row = _measure(arch, dropped, arguments)
        runtimes += timings
        ratios.append(row)
    print(pd.DataFrame(runtimes).drop(columns="error").round(3).to_string(index=False, na_rep=""))
    table = pd.DataFrame(ratios)
    print(table.round(3).to_string(index=False))
    print(", ".join(f"{key}: {value}" for key, value in host().items()))
    if arguments.figure:
        express.bar(table, x="arch", y=["flops", "critical", "ensemble"], barmode="group").write_html(arguments.figure)
    print(json.dumps({"benchmark": "latency", "host": host(), "runtimes": runtimes, "rows": ratios}))


def _measure(
    arch: str, dropped: float, arguments: argparse.Namespace
) -> tuple[list[dict[str, object]], dict[str, object]]:
    """Return a row for each runtime of base model, ensemble and largest member, and the row of ratios of the fastest ones."""
    members = arguments.members or arguments.threads
    name = f"{arch} without {dropped:.0%} of its blocks" if dropped else arch
    model, ensemble = random_ensemble(arch, arguments.share, arguments.round_to, arguments.scope, members, dropped)
    base, prepared = prepare_base(model, ensemble), prepare(ensemble)
    image = np.random.default_rng(0).integers(0, 256, (1, *ensemble.spec.image_size, 3), np.uint8)

    on_gpu = arguments.device == "cuda"
    compared = compare(
        base,
        prepared,
        image,
        combined(ensemble),
        1 if on_gpu else arguments.threads,
        names=candidates("cuda" if on_gpu else "cpu"),
        repeats=arguments.repeats,
    )
    row = {
        "arch": name,
        "members": members,
        "flops": base.members[0].flops / max(member.flops for member in prepared.members),
        "base_ms": compared.base_ms,
        "member_ms": max(compared.member_ms),
        "ensemble_ms": compared.ensemble_ms,
        "critical": compared.base_ms / max(compared.member_ms),
        "ensemble": compared.base_ms / compared.ensemble_ms,
    }
    rows = [{"arch": name, **each} for each in compared.rows()]
    row |= _overhead(ensemble, prepared, image, arguments.threads, arguments.repeats)
    return rows, row | _processor_times(base, prepared, image, arguments.repeats)


def _overhead(
    ensemble: Ensemble, prepared: Prepared, image: np.ndarray, threads: int, repeats: int
) -> dict[str, float]:
    """Measure the cost of the runtime and the combination over bare sessions, and the slowdown of sessions by each other."""
    shares = deal([member.flops for member in prepared.members], threads)
    sessions = [_session(member.onnx.SerializeToString()) for member in prepared.members]
    inputs = {"images": prepared.normalised(image)}
    combine = combined(ensemble)

    def run_share(share: list[int]) -> None:
        for number in share:
            sessions[number].run(None, inputs)

    with open_runtime("onnx-sessions", prepared, threads) as runtime, ThreadPoolExecutor(len(shares)) as pool:
        calls: dict[str, Callable[[], object]] = {
            "ensemble": lambda: combine(runtime(image)),
            "bare": lambda: list(pool.map(run_share, shares)),
            **{f"share {number}": partial(run_share, share) for number, share in enumerate(shares)},
        }
        whole, bare, *alone = (float(np.median(each)) for each in in_turn(calls, repeats).values())
    return {"overhead": whole / bare, "contention": bare / max(alone)}


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _processor_times(base: Prepared, members: Prepared, image: np.ndarray, repeats: int) -> dict[str, float]:
    with ExitStack() as stack:
        calls = {
            str(number): partial(stack.enter_context(open_runtime("onnx-sessions", alone, 1)), image)
            for number, alone in enumerate([base, *members.alone()])
        }
        own, *others = (float(np.median(each) * 1e3) for each in in_turn(calls, repeats, time.process_time).values())
    return {"base_cpu_ms": own, "member_cpu_ms": max(others), "critical_cpu": own / max(others)}


if __name__ == "__main__":
    main()
