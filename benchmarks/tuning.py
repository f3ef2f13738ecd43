"""Whether `tune` finds more than chance does: replayed on a table of every configuration of a small space.

python benchmarks/tuning.py [--space benchmarks/tuning_space.yaml] [--seeds 30] [--budget 40] [--jobs 2] [--figure tuning.png]
    [parameters of `retrain` ...]

The table is logged first, as runs of `prune` and `retrain` in the tracking store (`jobs` at a time, what is there already is
not computed again). Then studies take what they ask for from it. At equal `budget` of configurations: `tune` as it is, random
search without repetition, and a grid, spread evenly over the space. Warm: `tune` that learns of `budget` random logged
runs first and tries `--warm` configurations of its own. Fidelities: `tune` that cuts all configurations and retrains one in
`eta`. Hypervolumes (accuracy times saved cost, cost being FLOPs of the largest member) are shares of what all configurations
together reach; intervals are of the seeds (bootstrap, 95 %).
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "entrypoints")]

import cli
import numpy as np
import pandas as pd
import yaml
from joblib import Parallel, cpu_count, delayed

from sensai.evaluation import host
from sensai.stages import prune, retrain
from sensai.stages.configs import PruneConfig, RetrainConfig
from sensai.tracking import Store

Configuration = tuple[tuple[str, Any], ...]


def main() -> None:
    """Print tables for people, and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default=str(ROOT / "benchmarks" / "tuning_space.yaml"))
    parser.add_argument("--workers", type=int, default=cpu_count())
    arguments, rest = parser.parse_known_args()
    config = cli.parse("retrain", rest)
    space = yaml.safe_load(Path(arguments.space).read_text())
    configurations = [tuple(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    _logged(config, configurations[:1])
    shares = [configurations[number :: arguments.workers] for number in range(arguments.workers)]
    Parallel(arguments.workers)(delayed(_logged)(config, share) for share in shares)


def _logged(config: RetrainConfig, configurations: Iterable[Configuration]) -> dict[Configuration, dict[int, dict[str, float]]]:
    """What each configuration is worth, by the epochs that it had (0 and all), from the store."""
    store = Store.connect()
    found = {}
    for configuration in configurations:
        own = config.model_copy(update=dict(configuration))
        runs = {own.epochs: retrain.stage.ensure(own, store, None)}
        as_cut = PruneConfig.model_validate(own.upstream(PruneConfig).model_dump())
        runs[0] = prune.stage.ensure(as_cut, store, None)
        found[configuration] = {epochs: store.metrics_of(run_id) for epochs, run_id in runs.items()}
    return found


if __name__ == "__main__":
    main()
