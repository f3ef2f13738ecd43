"""A study whose trials cost nothing and whose best results are known: accuracy and cost fall as the ratio rises.

As a program, `python toy_study.py <storage> <trials> [<folder>]` is one worker. With a folder it writes a file there before
each trial, and then waits until a file `go` exists.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from optuna import Study, Trial
from optuna.pruners import NopPruner

from sensai.tuning.goals import Goal, Outcome
from sensai.tuning.halving import next_fixed
from sensai.tuning.sampler import TrialSampler
from sensai.tuning.space import EPOCHS, Allowed, Space, make_space
from sensai.tuning.studies import open_study
from sensai.tuning.worker import Worker

WHOLE = {"ratio": False, "method": False, "n_groups": True, "loss": False, "policy": False, EPOCHS: True}
CONTENT = {
    "ratio": {"low": 0.1, "high": 0.9},
    "method": ["singletons", "random"],
    "n_groups": {"low": 2, "high": 4, "when": {"method": "random"}},
    "loss": {"choices": ["bce", "kd"], "when": {EPOCHS: {"above": 0}}},
}
NAME, ABOUT = "toy", "digest"


def no_value_below_zero(name: str, value: object) -> str:
    """Return why the toy's stages refuse a value."""
    return f"{name}={value!r}: must be above 0" if isinstance(value, int | float) and value < 0 else ""


ALLOWED = Allowed(WHOLE, no_value_below_zero)


def space() -> Space:
    return make_space(CONTENT, ALLOWED, "toy.json")


def outcome(values: dict, run_id: str) -> Outcome:
    trained = values[EPOCHS] / (values[EPOCHS] + 2)
    accuracy = (1 - values["ratio"] ** 3) * (0.5 + 0.5 * trained)
    return Outcome(accuracy, 1 - values["ratio"], run_id, {EPOCHS: values[EPOCHS]})


def evaluate(trial: Trial, values: dict) -> Outcome:
    return outcome(values, f"run of {trial.number}")


def study(
    storage: str = "",
    *,
    goal: Goal | None = None,
    lost: Callable = lambda _: None,
    seed: int = 0,
    about: str = ABOUT,
) -> Study:
    directions = (goal or Goal("flops_max")).directions
    sampler = TrialSampler(seed)
    return open_study(storage, NAME, about, directions, sampler=sampler, pruner=NopPruner(), heartbeat=1, lost=lost)


def worker(own: Study, evaluate: Callable = evaluate, rungs: tuple[int, ...] = (0,), eta: int = 3) -> Worker:
    propose = partial(next_fixed, directions=[True, False], rungs=rungs, eta=eta)
    return Worker(own, space(), Goal("flops_max"), evaluate, propose)


def main(storage: str, trials: str, folder: str = "") -> None:
    def waiting(trial: Trial, values: dict) -> Outcome:
        Path(folder, f"trial_{trial.number}").touch()
        while not Path(folder, "go").exists():
            time.sleep(0.05)
        return evaluate(trial, values)

    worker(study(storage), waiting if folder else evaluate).run(int(trials))


if __name__ == "__main__":
    main(*sys.argv[1:])
