"""Compare `tune` with random search and a grid, replayed on a table of every configuration of a small space.

python benchmarks/tuning.py [--space benchmarks/tuning_space.yaml] [--seeds 30] [--budget 40] [--warm 15] [--workers 2]
    [--figure tuning.png] [parameters of `retrain` ...]

The script computes the table first, as runs of `prune` and `retrain` in the tracking store. Runs that are already there are
reused. Then these searches look up configurations in the table, `budget` of them where nothing else is said:

- tune: `tune` with its defaults, without fidelities and without earlier runs;
- random: random configurations, none twice;
- grid: the product of some values of each parameter, chosen anew for each seed;
- warm: `tune` that learns from the random search's configurations, and then asks for only `warm` of its own;
- fidelities: `tune` that prunes every configuration of the table and retrains the best third.

A hypervolume is calibrated accuracy times saved cost, as a share of the hypervolume of the whole table. Cost is the FLOPs of
the largest member as a share of the base model's. Intervals are over the seeds (bootstrap, 95 %). "epochs saved" is
1 - (epochs until `fidelities` reaches the last hypervolume of `tune`) / (epochs of `tune`).
"""

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import optuna
import pandas as pd
import yaml
from joblib import cpu_count
from matplotlib.figure import Figure
from optuna.pruners import NopPruner
from optuna.trial import FrozenTrial
from scipy.stats import bootstrap

from sensai.cli import parse
from sensai.config import PruneConfig, RetrainConfig, TuneConfig
from sensai.evaluation import host
from sensai.pipeline.session import Session, dataset_of
from sensai.stages import prune, retrain
from sensai.stages.tune.search_space import space_of
from sensai.tracking.metric_names import CALIBRATED_VAL_ACCURACY
from sensai.training.backends.local import in_processes
from sensai.tuning.front import fidelity_correlations, hypervolumes, trial_table
from sensai.tuning.goals import Goal, Outcome
from sensai.tuning.halving import next_fixed
from sensai.tuning.logged import LoggedRun, add_logged
from sensai.tuning.sampler import TrialSampler
from sensai.tuning.space import EPOCHS, Space
from sensai.tuning.studies import open_study
from sensai.tuning.worker import Worker

GOAL = Goal("flops_max")
_MOST_COST = 1.0
_ETA = 3

Configuration = frozenset[tuple[str, Any]]
# Configuration -> epochs of training (none, or all) -> outcome.
Table = dict[Configuration, dict[int, Outcome]]
Propose = Callable[[list[FrozenTrial]], Mapping[str, Any]]


def main() -> None:
    """Print tables for people, and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--space",
        default=str(Path(__file__).with_name("tuning_space.yaml")),
        help="the space, a YAML file of choices only",
    )
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--budget", type=int, default=40, help="configurations of each search")
    parser.add_argument(
        "--warm", type=int, default=15, help="configurations of `tune` after those of the random search"
    )
    parser.add_argument("--workers", type=int, default=cpu_count())
    parser.add_argument("--figure", help="write a figure of hypervolume over configurations to this file (.png)")
    arguments, rest = parser.parse_known_args()
    config = parse("tune", [*rest, "--space", arguments.space])
    assert isinstance(config, TuneConfig)
    grid = yaml.safe_load(Path(arguments.space).read_text())
    table = _table(config, grid, arguments.workers)
    _, space = space_of(config, len(dataset_of(config).class_names))
    replay = partial(_replay, table, space, grid, config.epochs, arguments.budget, arguments.warm)
    seeds = [range(number, arguments.seeds, arguments.workers) for number in range(arguments.workers)]
    rows = pd.concat(in_processes(replay, seeds, threads=1), ignore_index=True)
    summary, correlations = _summary(rows, config.epochs), _correlations(table, space)
    print(f"{len(table)} configurations of {config.arch}, {config.epochs} epochs, {arguments.seeds} seeds")
    print(summary.round(4).to_string())
    print(correlations.round(3).to_string(index=False))
    print(", ".join(f"{key}: {value}" for key, value in host().items()))
    if arguments.figure:
        _plot(rows).savefig(arguments.figure, dpi=150)
    found = {"rows": summary.reset_index().to_dict("records"), "fidelities": correlations.to_dict("records")}
    print(json.dumps({"benchmark": "tuning", "host": host(), "configurations": len(table), **found}))


def _table(config: TuneConfig, grid: Mapping[str, Sequence[Any]], workers: int) -> Table:
    configurations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    # The first configuration computes the stages that all share, so that the workers do not wait for each other.
    _outcomes(config, configurations[:1])
    shares = [configurations[number::workers] for number in range(workers)]
    parts = in_processes(partial(_outcomes, config), shares, threads=max(cpu_count() // workers, 1))
    found = {configuration: outcomes for part in parts for configuration, outcomes in part.items()}
    # The order of the table must not depend on the workers, because samples by a seed follow it.
    return {(own := frozenset(each.items())): found[own] for each in configurations}


def _outcomes(config: TuneConfig, configurations: Iterable[dict[str, Any]]) -> Table:
    """Return the outcomes of configurations from the store, and compute those that it lacks."""
    session, found = Session.connect(), {}
    store = session.store
    for configuration in configurations:
        own: RetrainConfig = config.trial(**configuration)
        pruned = PruneConfig.model_validate(own.upstream(PruneConfig).model_dump())
        runs = {0: prune.stage.ensure(pruned, session, None), own.epochs: retrain.stage.ensure(own, session, None)}
        sizes = store.metrics_of(runs[0])
        cost = sizes["flops_max"] / sizes["flops_base"]
        found[frozenset(configuration.items())] = {
            epochs: Outcome(store.metrics_of(run_id)[CALIBRATED_VAL_ACCURACY], cost, run_id, {EPOCHS: epochs})
            for epochs, run_id in runs.items()
        }
    return found


def _replay(
    table: Table,
    space: Space,
    grid: Mapping[str, Sequence[Any]],
    epochs: int,
    budget: int,
    warm: int,
    seeds: Iterable[int],
) -> pd.DataFrame:
    """Run every search for every seed, and return one row for each configuration in the order of the search.

    Columns: way, seed, configurations, epochs (both so far), hypervolume (as a share of the table's).
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return pd.concat([_replay_seed(table, space, grid, epochs, budget, warm, seed) for seed in seeds])


def _replay_seed(
    table: Table, space: Space, grid: Mapping[str, Sequence[Any]], epochs: int, budget: int, warm: int, seed: int
) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    everything = list(table)
    sampled = [everything[n] for n in generator.permutation(len(everything))[:budget]]
    study = partial(_run_study, table, space, seed=seed)
    few: Propose = partial(next_fixed, directions=[True, False], rungs=[0, epochs], eta=_ETA)
    ways = {
        "tune": study(lambda _: {EPOCHS: epochs}, budget),
        "random": _frame(table[each][epochs] for each in sampled),
        "grid": _frame(table[each][epochs] for each in _sampled_grid(grid, budget, generator)),
        "warm": study(lambda _: {EPOCHS: epochs}, warm, [table[each][epochs] for each in sampled], sampled),
        "fidelities": study(few, len(table) + len(table) // _ETA),
    }
    whole = _last_hypervolume(_frame(outcomes[epochs] for outcomes in table.values()))
    return pd.concat([_curve(frame, whole).assign(way=way, seed=seed) for way, frame in ways.items()])


def _run_study(
    table: Table,
    space: Space,
    propose: Propose,
    trials: int,
    logged: Sequence[Outcome] = (),
    configurations: Sequence[Configuration] = (),
    *,
    seed: int,
) -> pd.DataFrame:
    study = open_study(
        "", "replay", "", GOAL.directions, sampler=TrialSampler(seed), pruner=NopPruner(), heartbeat=1, lost=print
    )
    runs = zip(configurations, logged, strict=True)
    add_logged(study, space, GOAL, (LoggedRun({**dict(own), **outcome.metrics}, outcome) for own, outcome in runs))

    def evaluate(_: object, values: Mapping[str, Any]) -> Outcome:
        own = frozenset((name, value) for name, value in values.items() if name != EPOCHS)
        return table[own][values[EPOCHS]]

    Worker(study, space, GOAL, evaluate, propose).run(trials)
    return trial_table(study)


def _sampled_grid(
    grid: Mapping[str, Sequence[Any]], budget: int, generator: np.random.Generator
) -> list[Configuration]:
    """Return the product of random values of each parameter, with exactly `budget` configurations."""
    sizes = [
        each for each in itertools.product(*(range(1, len(v) + 1) for v in grid.values())) if math.prod(each) == budget
    ]
    chosen = [
        generator.choice(len(values), size, replace=False)
        for values, size in zip(grid.values(), sizes[generator.integers(len(sizes))], strict=True)
    ]
    kept = [[values[n] for n in numbers] for values, numbers in zip(grid.values(), chosen, strict=True)]
    return [frozenset(zip(grid, values, strict=True)) for values in itertools.product(*kept)]


def _frame(outcomes: Iterable[Outcome]) -> pd.DataFrame:
    rows = [(n, each.metrics[EPOCHS], each.accuracy, each.cost) for n, each in enumerate(outcomes)]
    return pd.DataFrame(rows, columns=["trial", EPOCHS, CALIBRATED_VAL_ACCURACY, "cost"])


def _curve(frame: pd.DataFrame, whole: float) -> pd.DataFrame:
    shares = hypervolumes(frame, _MOST_COST)["hypervolume"] / whole
    counted = {"configurations": np.arange(1, len(frame) + 1), EPOCHS: frame[EPOCHS].cumsum().to_numpy()}
    return pd.DataFrame({**counted, "hypervolume": shares})


def _last_hypervolume(frame: pd.DataFrame) -> float:
    return float(hypervolumes(frame, _MOST_COST)["hypervolume"].iloc[-1])


def _summary(rows: pd.DataFrame, epochs: int) -> pd.DataFrame:
    """Return a row for each search: its hypervolume, and the comparison with tune seed by seed."""
    last = rows.groupby(["way", "seed"]).last()
    tuned = last.loc["tune", "hypervolume"]
    found = {}
    for way in ("tune", "random", "grid", "warm"):
        own = last.loc[way, "hypervolume"]
        low, high = _interval(own)
        row = {"hypervolume": own.mean(), "low": low, "high": high, "lowest": own.min()}
        if way != "tune":
            below = _interval(tuned - own)
            row |= {"tune minus this": (tuned - own).mean(), "from": below[0], "to": below[1]}
            row |= {"share of seeds in which tune is no worse": (tuned >= own).mean()}
        found[way] = row
    saved = _epochs_saved(rows, tuned, epochs)
    found["fidelities"] = {
        "hypervolume": last.loc["fidelities", "hypervolume"].mean(),
        "epochs saved": saved.mean(),
        "median epochs saved": saved.median(),
        "share of seeds that reach tune": saved.gt(-math.inf).mean(),
    }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis("way")


def _epochs_saved(rows: pd.DataFrame, tuned: pd.Series, epochs: int) -> pd.Series:
    """Return for each seed the share of tune's epochs that the fidelities save until they reach tune's last hypervolume.

    NaN stands for a seed in which they never reach it.
    """
    spent = rows[rows["way"] == "tune"].groupby("seed")[EPOCHS].last()
    own = rows[rows["way"] == "fidelities"]
    reached = own[own["hypervolume"] >= own["seed"].map(tuned) - 1e-12].groupby("seed")[EPOCHS].first()
    return (1 - reached / spent).reindex(tuned.index)


def _interval(values: pd.Series) -> tuple[float, float]:
    if values.min() == values.max():
        return values.min(), values.max()
    found = bootstrap((values.to_numpy(),), np.mean, rng=0).confidence_interval
    return float(found.low), float(found.high)


def _correlations(table: Table, space: Space) -> pd.DataFrame:
    """Return the rank correlations between outcomes after pruning alone and after training, over the whole table."""
    study = optuna.create_study(directions=list(GOAL.directions.values()))
    runs = (
        LoggedRun({**dict(own), EPOCHS: epochs}, outcome)
        for own, outcomes in table.items()
        for epochs, outcome in outcomes.items()
    )
    add_logged(study, space, GOAL, runs)
    return fidelity_correlations(study)


def _plot(rows: pd.DataFrame) -> Figure:
    """Return a figure of the mean hypervolume over configurations, with the band that holds half of the seeds."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for way, own in rows[rows["way"].isin(["tune", "random", "grid"])].groupby("way", sort=False):
        curves = own.pivot_table(index="configurations", columns="seed", values="hypervolume")
        (line,) = axes.plot(curves.index, curves.mean(axis=1), label=way)
        axes.fill_between(
            curves.index, *curves.quantile([0.25, 0.75], axis=1).to_numpy(), color=line.get_color(), alpha=0.15
        )
    warm = rows[rows["way"] == "warm"].groupby("seed")["hypervolume"].last().mean()
    axes.axhline(warm, color="grey", linestyle=":", label="warm, at its end")
    axes.set_xlabel("configurations")
    axes.set_ylabel("hypervolume / that of the whole table")
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
