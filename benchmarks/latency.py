"""One live input: the base model, its members one by one and all together, each in the runtimes that this machine has.

python benchmarks/latency.py [--arch vgg19_bn resnet110] [--share 0.0556] [--round_to 16] [--scope all] [--dropped 0]
    [--members 2] [--threads 2] [--device cpu] [--repeats 50] [--figure latency.html]

Random weights; binary members by random plans of at most `share` of the base model's FLOPs, without a share `dropped` of the
blocks beside residual connections (a row for each that is given); 32x32 images, 224x224 for networks of torchvision. Times are
milliseconds from a raw image to outputs, medians of calls in turn: `base` and `ensemble` in their fastest runtime, `member` the
slowest member in its fastest, as a machine like this one for each member would see it. So `critical` = base / member stands
beside `flops` = FLOPs of the base model / of the largest member, and `ensemble` = base / ensemble is what this machine gains.
Three more, of ONNX Runtime on the CPU: `overhead` = all members by `onnx-sessions`, combined / the same sessions called bare,
dealt to as many threads; `contention` = those / what a thread takes for its own while the others are idle, which is what they
lose to each other. `critical_cpu` is `critical` in processor time, base and member both on one thread:
what others do hits a call of milliseconds harder than a long one, and does not count there.
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

# As in the entry points: threads of torch that spin after a call would keep the cores from the runtime that is timed next.
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
    parser.add_argument("--dropped", type=float, nargs="+", default=[0.0], help="share of the blocks that are gone")
    parser.add_argument("--threads", type=int, default=cpu_count())
    parser.add_argument("--members", type=int, help="as many as threads")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="whose runtimes are tried")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--figure", help="file (.html) for the ratios as bars")
    arguments = parser.parse_args()
    runtimes, ratios = [], []
    for arch, dropped in product(arguments.arch, arguments.dropped):
        timings, row = _measured(arch, dropped, arguments)
        runtimes += timings
        ratios.append(row)
    print(pd.DataFrame(runtimes).drop(columns="error").round(3).to_string(index=False, na_rep=""))
    table = pd.DataFrame(ratios)
    print(table.round(3).to_string(index=False))
    print(", ".join(f"{key}: {value}" for key, value in host().items()))
    if arguments.figure:
        express.bar(table, x="arch", y=["flops", "critical", "ensemble"], barmode="group").write_html(arguments.figure)
    print(json.dumps({"benchmark": "latency", "host": host(), "runtimes": runtimes, "rows": ratios}))


def _measured(
    arch: str, dropped: float, arguments: argparse.Namespace
) -> tuple[list[dict[str, object]], dict[str, object]]:
    """A row for each runtime of base model, ensemble and largest member; and the row of what the fastest give in turn."""
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
    return rows, row | _processor_time(base, prepared, image, arguments.repeats)


def _overhead(
    ensemble: Ensemble, prepared: Prepared, image: np.ndarray, threads: int, repeats: int
) -> dict[str, float]:
    """What running and combining the members takes beyond their sessions, and what the threads of these lose to each other."""
    hands = deal([member.flops for member in prepared.members], threads)
    sessions = [_session(member.onnx.SerializeToString()) for member in prepared.members]
    given = {"images": prepared.normalised(image)}
    combine = combined(ensemble)

    def play(hand: list[int]) -> None:
        for number in hand:
            sessions[number].run(None, given)

    with open_runtime("onnx-sessions", prepared, threads) as runtime, ThreadPoolExecutor(len(hands)) as pool:
        calls: dict[str, Callable[[], object]] = {
            "ensemble": lambda: combine(runtime(image)),
            "bare": lambda: list(pool.map(play, hands)),
            **{f"hand {number}": partial(play, hand) for number, hand in enumerate(hands)},
        }
        whole, bare, *alone = (float(np.median(each)) for each in in_turn(calls, repeats).values())
    return {"overhead": whole / bare, "contention": bare / max(alone)}


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _processor_time(base: Prepared, members: Prepared, image: np.ndarray, repeats: int) -> dict[str, float]:
    with ExitStack() as stack:
        calls = {
            str(number): partial(stack.enter_context(open_runtime("onnx-sessions", alone, 1)), image)
            for number, alone in enumerate([base, *members.alone()])
        }
        own, *others = (float(np.median(each) * 1e3) for each in in_turn(calls, repeats, time.process_time).values())
    return {"base_cpu_ms": own, "member_cpu_ms": max(others), "critical_cpu": own / max(others)}


if __name__ == "__main__":
    main()
