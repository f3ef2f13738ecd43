"""From how many cores, or machines, on an ensemble answers sooner than the base model, and than its control.

python benchmarks/scaling.py [--arch vgg19_bn resnet110] [--share 0.0556] [--round_to 16] [--scope all] [--members 10]
    [--threads 2] [--hops 0.1 1 5] [--http 12 33] [--repeats 30] [--figure scaling.png]

One image, random weights, binary members of at most `share` of the base model's FLOPs; the control is one K-way network of that
share. Measured: each in its fastest runtime with 1 to `threads` threads (rows `measured`). Beyond that `fitted` rows are
models, no measurements: base model and control by Amdahl's law, the ensemble as its members' single-thread times dealt to the
workers, plus the overhead that was measured here; on machines, plus the milliseconds of `hops` for the way to them and back;
over HTTP, plus those of `http`, which a server adds (`python benchmarks/serving.py`). Below stand the fewest cores (up to the
members) from which on the ensemble is faster by these models than the others in process. Where those answer over HTTP too, all
have the same milliseconds more, so that it is as in process.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensai.cluster.processes import let_threads_sleep

# As in the entry points: threads of torch that spin after a call would keep the cores from the runtime that is timed next.
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
    parser.add_argument("--threads", type=int, default=cpu_count(), help="the most that are measured with")
    parser.add_argument("--hops", type=float, nargs="+", default=[0.1, 1.0, 5.0], help="ms to other machines and back")
    parser.add_argument("--http", type=float, nargs="*", default=[12.0, 33.0], help="ms that a server adds")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--figure", help="file (.png) for latency over workers")
    arguments = parser.parse_args()
    measured = [_measured(arch, arguments) for arch in arguments.arch]
    latencies = pd.concat([table for table, _ in measured], ignore_index=True)
    even = pd.DataFrame([row for _, row in measured])
    shown = latencies.pivot_table(index=["arch", "network", "kind"], columns="workers", values="ms")
    print(shown.round(2).to_string(na_rep=""))
    print(even.astype(object).set_index("arch").T.fillna("never").to_string())
    print(", ".join(f"{key}: {value}" for key, value in host().items()))
    if arguments.figure:
        _drawn(latencies).savefig(arguments.figure, dpi=150)
    rows = {"latencies": latencies.to_dict("records"), "rows": even.to_dict("records")}
    print(json.dumps({"benchmark": "scaling", "host": host(), **rows}))


def _drawn(latencies: pd.DataFrame) -> Figure:
    """A panel a network: what was measured as points, models as dashed lines."""
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


def _measured(arch: str, arguments: argparse.Namespace) -> tuple[pd.DataFrame, dict[str, object]]:
    """Milliseconds by network, workers and kind (measured or fitted); and the row of the break-evens."""
    compared = _compared(arch, arguments.members, arguments)
    control = {threads: each.ensemble_ms for threads, each in _compared(arch, 1, arguments).items()}
    own = {threads: each.ensemble_ms for threads, each in compared.items()}
    base = {threads: each.base_ms for threads, each in compared.items()}
    base_model, control_model = NetworkModel.fitted(base), NetworkModel.fitted(control)
    ensemble_model = EnsembleModel.fitted(compared[1].member_ms, own)
    networks = {"base": (base, base_model), "control": (control, control_model), "ensemble": (own, ensemble_model)}
    rows = []
    for network, (seen, model) in networks.items():
        rows += [(network, workers, "measured", ms) for workers, ms in seen.items()]
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


def _compared(arch: str, members: int, arguments: argparse.Namespace) -> dict[int, Comparison]:
    """Base model and ensemble side by side with each count of threads; each at least as fast as with fewer."""
    model, ensemble = random_ensemble(arch, arguments.share, arguments.round_to, arguments.scope, members)
    base, prepared = prepare_base(model, ensemble), prepare(ensemble)
    image = np.random.default_rng(0).integers(0, 256, (1, *ensemble.spec.image_size, 3), np.uint8)
    return {
        threads: compare(base, prepared, image, combined(ensemble), threads, repeats=arguments.repeats)
        for threads in range(1, arguments.threads + 1)
    }


if __name__ == "__main__":
    main()
