"""Plans of replicas differ as their name says, and remove as much as the plan that they stand beside."""

import numpy as np
import pytest

from sensai.activations import Statistics
from sensai.policy.criterion_inputs import criterion_of
from sensai.policy.plans import ratio_plan
from sensai.policy.replica_plans import ReplicaPlans, half_ranked, nearly_ranked, replica_criteria
from sensai.sites import Plan
from tests.helpers.site_statistics import random_statistics

WIDTHS = {"a": 40, "b": 25, "c": 8}
STATISTICS: Statistics = random_statistics(WIDTHS, 4)
CLASSES = (0, 1, 2, 3)
NORMS = {site: np.random.default_rng(7).random(width) for site, width in WIDTHS.items()}
BY_APOZ = criterion_of("apoz")


def plans(kind: ReplicaPlans, ratio: float = 0.6, members: int = 5, seed: int = 0) -> list[Plan]:
    def named(name: str) -> object:
        return criterion_of(name, seed, lambda: NORMS)

    criteria = replica_criteria(kind, members, BY_APOZ, named, "apoz", seed)
    return [ratio_plan(STATISTICS, CLASSES, ratio, criterion=criterion) for criterion in criteria]


def removed(plan: Plan) -> set[tuple[str, int]]:
    return {(site, int(channel)) for site, channels in plan.items() for channel in channels}


SAME = ratio_plan(STATISTICS, CLASSES, 0.6)


@pytest.mark.parametrize("kind", ["random", "halves", "criteria", "same"])
def test_every_plan_removes_the_same_number(kind: ReplicaPlans) -> None:
    assert [len(removed(plan)) for plan in plans(kind)] == [len(removed(SAME))] * 5


@pytest.mark.parametrize("kind", ["random", "halves", "criteria"])
def test_plans_differ_from_each_other_and_by_the_seed(kind: ReplicaPlans) -> None:
    own = [frozenset(removed(plan)) for plan in plans(kind)]
    assert len(set(own)) == 5
    assert own == [frozenset(removed(plan)) for plan in plans(kind)]
    # The first three criteria sample nothing.
    other = [frozenset(removed(plan)) for plan in plans(kind, seed=1)]
    assert (own[3:] if kind == "criteria" else own) != (other[3:] if kind == "criteria" else other)


def test_the_same_plan_is_that_of_the_criterion() -> None:
    assert [removed(plan) for plan in plans("same")] == [removed(SAME)] * 5


def test_criteria_take_turns() -> None:
    expected = [
        ratio_plan(STATISTICS, CLASSES, 0.6, criterion=criterion_of(name, 0, lambda: NORMS))
        for name in ("apoz", "l1", "mean")
    ]
    assert [removed(plan) for plan in plans("criteria")[:3]] == [removed(plan) for plan in expected]


def test_only_channels_of_nearly_the_same_rank_change_places() -> None:
    keys = BY_APOZ(STATISTICS, CLASSES)
    together = np.concatenate(list(keys.values()), axis=1)
    rank = np.argsort(np.lexsort(together[::-1]))
    for number in range(3):
        moved = np.concatenate(list(nearly_ranked(keys, number, seed=0).values()), axis=1)[0]
        assert np.abs(np.argsort(np.argsort(moved)) - rank).max() <= 0.1 * len(rank) + 1
        assert not np.array_equal(np.argsort(moved), np.argsort(rank))


@pytest.mark.parametrize("seed", range(5))
def test_two_replicas_in_turn_keep_complementary_halves(seed: int) -> None:
    every = {(site, channel) for site, width in WIDTHS.items() for channel in range(width)}
    kept = [every - removed(plan) for plan in plans("halves", members=4, seed=seed)]
    assert not kept[0] & kept[1]
    assert not kept[2] & kept[3]
    assert kept[0] & kept[2]


def test_both_halves_are_equally_good() -> None:
    """One of each two channels in a row of a site's ranking falls to each half."""
    keys = BY_APOZ(STATISTICS, CLASSES)
    for site, own in half_ranked(keys, 0, seed=0).items():
        mine = own[0][np.lexsort(keys[site][::-1])]
        pairs = mine[: len(mine) // 2 * 2].reshape(-1, 2)
        assert np.array_equal(pairs.sum(1), np.ones(len(pairs)))
        other = half_ranked(keys, 1, seed=0)[site]
        assert np.array_equal(own[0] + other[0], np.ones(len(mine)))
        assert np.array_equal(own[1:], keys[site])
