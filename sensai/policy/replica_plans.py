"""Plans that make members of the same classes differ. C channels of a site, S sites."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from sensai.activations import Statistics
from sensai.policy.criterion_inputs import Criterion

# random: channels of nearly the same rank may change places. halves: two members in turn prefer complementary halves of the
# channels (Whitaker and Whitley 2022, "Prune and Tune Ensembles"). criteria: each by another criterion. same: one plan.
ReplicaPlans = Literal["random", "halves", "criteria", "same"]
# Returns other sort keys of a member from those of a criterion, its number and a seed.
Rerank = Callable[[Mapping[str, np.ndarray], int, int], dict[str, np.ndarray]]

# Those of `criteria`, in turn; they need no backward pass.
_CRITERIA_IN_TURN = ("apoz", "l1", "mean")
# Channels change places with those whose rank differs by up to this share of all channels.
_NEARLY = 0.1


def replica_criteria(
    plans: ReplicaPlans, members: int, criterion: Criterion, named: Callable[[str], Criterion], name: str, seed: int
) -> list[Criterion]:
    """Return the criterion that ranks the channels of each member.

    Args:
        plans: how the plans of members differ.
        members: how many there are.
        criterion: of the first member, or what those of the others are made from.
        named: returns a criterion by its name.
        name: of `criterion`.
        seed: of what is sampled.
    """
    if plans == "same":
        return [criterion] * members
    if plans == "criteria":
        turn = [criterion, *(named(other) for other in _CRITERIA_IN_TURN if other != name)]
        # Once all had their turn, a criterion would make the same plan again.
        return [
            turn[number] if number < len(turn) else _reranked(nearly_ranked, turn[number % len(turn)], number, seed)
            for number in range(members)
        ]
    rerank = half_ranked if plans == "halves" else nearly_ranked
    return [_reranked(rerank, criterion, number, seed) for number in range(members)]


def _reranked(rerank: Rerank, criterion: Criterion, number: int, seed: int) -> Criterion:
    def reranked(statistics: Statistics, classes: Sequence[int]) -> dict[str, np.ndarray]:
        return rerank(criterion(statistics, classes), number, seed)

    return reranked


def nearly_ranked(keys: Mapping[str, np.ndarray], number: int, seed: int) -> dict[str, np.ndarray]:
    """Return sort keys float64 (1, C) of each site that rank channels as before, but for random swaps of near ranks.

    Args:
        keys: float64 (keys, C) of each site, as by a criterion.
        number: of the replica.
        seed: with the number, of the swaps.
    """
    ranks = _ranks(keys)
    moved = ranks + _NEARLY * len(ranks) * np.random.default_rng([seed, number]).random(len(ranks))
    return _by_site(moved[None], keys)


def half_ranked(keys: Mapping[str, np.ndarray], number: int, seed: int) -> dict[str, np.ndarray]:
    """Return sort keys float64 (1 + keys, C) of each site that put one half of its channels before the other.

    Replicas 0 and 1 keep complementary halves where each keeps at most half, likewise 2 and 3. Of two channels in a row of
    the ranking of a site one falls to each half, so both halves are equally good.

    Args:
        keys: float64 (keys, C) of each site, as by a criterion.
        number: of the replica.
        seed: with half the number, of the halves.
    """
    generator = np.random.default_rng([seed, number // 2])
    halves = {}
    for site, own in keys.items():
        order = np.lexsort(own[::-1])
        first = generator.integers(0, 2, size=(len(order) + 1) // 2)
        mine = np.empty(len(order), bool)
        mine[order] = (np.stack([first, 1 - first], axis=1).reshape(-1)[: len(order)] + number) % 2 == 0
        halves[site] = np.concatenate([mine[None].astype(np.float64), own])
    return halves


def _ranks(keys: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return int64 (channels of all sites,): the rank of each channel in order of removal."""
    together = np.concatenate(list(keys.values()), axis=1)
    ranks = np.empty(together.shape[1], np.int64)
    ranks[np.lexsort(together[::-1])] = np.arange(together.shape[1])
    return ranks


def _by_site(values: np.ndarray, keys: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    ends = np.cumsum([own.shape[1] for own in keys.values()])
    return dict(zip(keys, np.split(values, ends[:-1], axis=1), strict=True))
