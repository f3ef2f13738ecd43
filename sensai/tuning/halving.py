"""Choose configurations for more epochs by asynchronous successive halving (ASHA, Li et al. 2020), by ranks of a front.

The trials of one fidelity are a rung. The best T / eta of the T configurations of a rung go on to the next one. First are
those that no other dominates, then those that only these dominate, and so on. Within a rank, those in the least crowded
regions are first.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from sensai.tuning.space import EPOCHS


def next_fixed(
    trials: Sequence[FrozenTrial], directions: Sequence[bool], rungs: Sequence[int], eta: int
) -> dict[str, Any]:
    """Return the fixed parameters of the next trial.

    They are a configuration that gets more epochs, the most expensive first, or else the epochs of a new configuration.

    Args:
        trials: of the study, in any state.
        directions: for each value, True if more is better.
        rungs: epochs, ascending.
        eta: one of so many goes on.
    """
    for epochs, more in reversed(list(pairwise(rungs))):
        rung = _distinct([each for each in trials if each.state == TrialState.COMPLETE and _epochs(each) == epochs])
        gone_on = [configuration(each) for each in trials if _epochs(each) == more]
        for number in best_first(_losses(rung, directions))[: len(rung) // eta]:
            own = configuration(rung[number])
            if not any(own.items() <= other.items() for other in gone_on):
                return {**own, EPOCHS: more}
    return {EPOCHS: rungs[0]}


def configuration(trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial's parameters without the epochs; a trained configuration may have further parameters."""
    return {name: value for name, value in trial.params.items() if name != EPOCHS}


def best_first(losses: np.ndarray) -> list[int]:
    """Return the rows of losses (T, 2) by rank; within a rank, those with the most distant neighbours first."""
    ranks, room = domination_ranks(losses), np.zeros(len(losses))
    for rank in np.unique(ranks):
        members = np.flatnonzero(ranks == rank)
        room[members] = _crowding_distances(losses[members])
    return list(np.lexsort((-room, ranks)))


def domination_ranks(losses: np.ndarray) -> np.ndarray:
    """Return int64 (T,): the rank of each row of losses (T, values).

    Rank 0: no other row is at least as good in all values and better in one. Rank 1: only rows of rank 0 are so, and so on.
    """
    at_least = (losses[:, None] <= losses[None]).all(axis=2)
    dominates = at_least & (losses[:, None] < losses[None]).any(axis=2)
    ranks, left = np.full(len(losses), -1), np.ones(len(losses), bool)
    rank = 0
    while left.any():
        front = left & ~(dominates & left[:, None]).any(axis=0)
        ranks[front] = rank
        left &= ~front
        rank += 1
    return ranks


def _crowding_distances(losses: np.ndarray) -> np.ndarray:
    """Return float64 (T,): the sides of the box between each row's neighbours, relative to all rows.

    It is infinite at the ends (Deb 2002).
    """
    distances = np.zeros(len(losses))
    for values in losses.T:
        order = np.argsort(values, kind="stable")
        span = np.ptp(values) or 1.0
        distances[order[[0, -1]]] = np.inf
        distances[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / span
    return distances


def _losses(trials: Sequence[FrozenTrial], directions: Sequence[bool]) -> np.ndarray:
    signs = np.where(directions, -1.0, 1.0)
    return np.array([each.values for each in trials], np.float64).reshape(len(trials), len(signs)) * signs


def _epochs(trial: FrozenTrial) -> int | None:
    return trial.params.get(EPOCHS)


def _distinct(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the first trial of each configuration."""
    found: dict[frozenset[tuple[str, Any]], FrozenTrial] = {}
    for each in trials:
        found.setdefault(frozenset(configuration(each).items()), each)
    return list(found.values())
