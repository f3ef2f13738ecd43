"""Find the number of cores, or machines, from which on an ensemble is faster than the base model and than its control.

python benchmarks/scaling.py [--arch vgg19_bn resnet110] [--share 0.0556] [--round_to 16] [--scope all] [--members 10]
    [--threads 2] [--hops 0.1 1 5] [--http 12 33] [--repeats 30] [--figure scaling.png]

Times are for one image. Weights are random. Binary members have at most `share` of the base model's FLOPs. The control is one
K-way network of that share.

- Rows `measured`: each network in its fastest runtime, with 1 to `threads` threads.
- Rows `fitted`: models, not measurements, for 1 worker to as many as members. Base model and control follow Amdahl's law. The
  ensemble is its members' single-thread times dealt to the workers, plus the overhead measured here. For other machines the
  milliseconds of `hops` are added (to them and back), over HTTP those of `http`, which `benchmarks/serving.py` measures.

The second table gives the smallest number of cores or machines from which on the ensemble is faster by these models. The base
model and the control answer in process. If they answer over HTTP too, a server adds the same to all, and the numbers for cores
hold.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensai.cluster.processes import let_threads_sleep

# Threads of torch would spin after a call, and keep the cores from the runtime that is timed next.
let_threads_sleep()

import numpy as np
import pandas as pd
from joblib import cpu_count
from latency_models import EnsembleModel, NetworkModel, break_even
from matplotlib.figure import Figure
from synthetic import add_member_arguments, combined, random_ensemble

from sensai.evaluation import host
from sensai.runtimes import compare, prepare, prepare_base
from sensai.runtimes.latency_comparison import Comparison


def main() -> None:
    """Print the latencies and the break-evens as tables for people, and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=["vgg19_bn", "resnet110"])
    add_member_arguments(parser)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--threads", type=int, default=cpu_count(), help="measure with 1 to this many threads")
    parser.add_argument(
        "--hops", type=float, nargs="+", default=[0.1, 1.0, 5.0], help="milliseconds to other machines and back"
    )
    parser.add_argument("--http", type=float, nargs="*", default=[12.0, 33.0], help="milliseconds that a server adds")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--figure", help="write a figure of latency over workers to this file (.png)")
    arguments = parser.parse_args()
    measured = [_measure(arch, arguments) for arch in arguments.arch]
    latencies = pd.concat([table for table, _ in measured], ignore_index=True)
    even = pd.DataFrame([row for _, row in measured])
    shown = latencies.pivot_table(index=["arch", "network", "kind"], columns="workers", values="ms")
    print(shown.round(2).to_string(na_rep=""))
    print(even.astype(object).set_index("arch").T.fillna("never").to_string())
    print(", ".join(f"{key}: {value}" for key, value in host().items()))
    if arguments.figure:
        _plot(latencies).savefig(arguments.figure, dpi=150)
    rows = {"latencies": latencies.to_dict("records"), "rows": even.to_dict("records")}
    print(json.dumps({"benchmark": "scaling", "host": host(), **rows}))


def _plot(latencies: pd.DataFrame) -> Figure:
    """Return a figure with a panel for each architecture: measurements as points, models as dashed lines."""
    archs = latencies["arch"].unique()
    figure = Figure(figsize=(4.6 * len(archs), 4.4), layout="constrained")
    panels = figure.subplots(1, len(archs), squeeze=False)[0]
    for axes, arch in zip(panels, archs, strict=True):
        for number, (network, rows) in enumerate(latencies[latencies["arch"] == arch].groupby("network", sort=False)):
            measured, fitted = (rows[rows["kind"] == kind] for kind in ("measured", "fitted"))
            axes.plot(fitted["workers"], fitted["ms"], "--", color=f"C{number}", linewidth=1, label=f"{network}, model")
            if len(measured):
                axes.plot(measured["workers"], measured["ms"], "o", color=f"C{number}", label=f"{network}, measured")
        axes.set_yscale("log")
        axes.set_title(arch, fontsize=10)
        axes.set_xlabel("cores, or machines")
    panels[0].set_ylabel("ms, one image")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=7)
    return figure


def _measure(arch: str, arguments: argparse.Namespace) -> tuple[pd.DataFrame, dict[str, object]]:
    """Return milliseconds by network, workers and kind (measured or fitted), and the row of break-evens."""
    compared = _compare(arch, arguments.members, arguments)
    control = {threads: each.ensemble_ms for threads, each in _compare(arch, 1, arguments).items()}
    own = {threads: each.ensemble_ms for threads, each in compared.items()}
    base = {threads: each.base_ms for threads, each in compared.items()}
    base_model, control_model = NetworkModel.fitted(base), NetworkModel.fitted(control)
    ensemble_model = EnsembleModel.fitted(compared[1].member_ms, own)
    networks = {"base": (base, base_model), "control": (control, control_model), "ensemble": (own, ensemble_model)}
    rows = []
    for network, (found, model) in networks.items():
        rows += [(network, workers, "measured", ms) for workers, ms in found.items()]
        rows += [(network, workers, "fitted", model(workers)) for workers in range(1, arguments.members + 1)]
    delays = {f"machines {hop:g} ms away": hop for hop in arguments.hops}
    delays |= {f"over HTTP, {more:g} ms more": more for more in arguments.http}
    for name, delay in delays.items():
        rows += [
            (f"ensemble, {name}", workers, "fitted", ensemble_model(workers, delay))
            for workers in range(1, arguments.members + 1)
        ]
    even = {
        "arch": arch,
        "members": arguments.members,
        "overhead_ms": round(ensemble_model.overhead_ms, 3),
        "cores, against the base model": break_even(ensemble_model, base_model, arguments.members),
        "cores, against the control": break_even(ensemble_model, control_model, arguments.members),
        **{
            f"{name}, against the base model": break_even(
                lambda workers, delay=delay: ensemble_model(workers, delay), base_model, arguments.members
            )
            for name, delay in delays.items()
        },
    }
    table = pd.DataFrame(rows, columns=["network", "workers", "kind", "ms"])
    return table.assign(arch=arch), even


def _compare(arch: str, members: int, arguments: argparse.Namespace) -> dict[int, Comparison]:
    """Return threads -> base model and ensemble, timed side by side. Each may use fewer threads if that is faster."""
    model, ensemble = random_ensemble(arch, arguments.share, arguments.round_to, arguments.scope, members)
    base, prepared = prepare_base(model, ensemble), prepare(ensemble)
    image = np.random.default_rng(0).integers(0, 256, (1, *ensemble.spec.image_size, 3), np.uint8)
    return {
        threads: compare(base, prepared, image, combined(ensemble), threads, repeats=arguments.repeats)
        for threads in range(1, arguments.threads + 1)
    }


if __name__ == "__main__":
    main()
