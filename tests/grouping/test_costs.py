"""Costs of members are predicted exactly, and the cheapest groups are found."""

from collections.abc import Callable
from functools import cache
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensai.activations import Statistics
from sensai.grouping import all_partitions
from sensai.grouping.costs import MemberCosts
from sensai.grouping.grouping_inputs import form_groups
from sensai.grouping.partitions import Group
from sensai.grouping.samples import sample_groups
from sensai.policy.plans import ratio_plan
from sensai.pruning import head_rows
from tests.helpers.site_statistics import inputs_of, prediction, random_statistics, small_widths

WIDTHS = small_widths()


def exact_costs(statistics: Statistics, ratio: float) -> Callable[[list[Group]], tuple[int, int]]:
    """Return FLOPs of the largest member and of all, from the predicted size of each group's plan."""
    num_classes = len(next(iter(statistics.values())).elements)

    @cache
    def flops(group: Group) -> int:
        return prediction(num_classes)(ratio_plan(statistics, group, ratio), head_rows(len(group), num_classes))[1]

    return lambda groups: (max(map(flops, groups)), sum(map(flops, groups)))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(num_classes=st.integers(2, 9), n_groups=st.integers(1, 9), ratio=st.floats(0, 0.99), seed=st.integers(0, 1000))
def test_costs_are_those_of_the_plans(num_classes: int, n_groups: int, ratio: float, seed: int) -> None:
    groups = sample_groups(num_classes, min(n_groups, num_classes), seed)
    statistics = random_statistics(WIDTHS, num_classes, seed)
    costs = MemberCosts(statistics, prediction(num_classes), ratio)
    assert costs.of(groups) == exact_costs(statistics, ratio)(groups)
    assert costs.sizes(groups) == [
        prediction(num_classes)(ratio_plan(statistics, group, ratio), head_rows(len(group), num_classes))
        for group in groups
    ]


def test_sites_may_come_in_any_order() -> None:
    groups = sample_groups(6, 2, seed=0)
    statistics = random_statistics(WIDTHS, 6)
    turned = dict(reversed(statistics.items()))
    assert MemberCosts(turned, prediction(6), 0.6).of(groups) == exact_costs(statistics, 0.6)(groups)


def every_partition(num_classes: int, n_groups: int) -> list[list[Group]]:
    """Return all even partitions, from all labellings that number groups by their first classes."""
    found = []
    for rest in product(range(n_groups), repeat=num_classes - 1):
        labels = np.array((0, *rest))
        sizes = np.bincount(labels, minlength=n_groups)
        firsts = [labels.tolist().index(number) for number in range(n_groups) if sizes[number]]
        if len(firsts) == n_groups and sizes.max() - sizes.min() <= 1 and firsts == sorted(firsts):
            found.append([tuple(np.flatnonzero(labels == number).tolist()) for number in range(n_groups)])
    return found


@pytest.mark.parametrize(("num_classes", "n_groups"), [(5, 2), (6, 3), (7, 4), (9, 3), (10, 2)])
@pytest.mark.parametrize("seed", range(4))
def test_for_few_classes_min_flops_is_the_best_of_all(num_classes: int, n_groups: int, seed: int) -> None:
    statistics, ratio = random_statistics(WIDTHS, num_classes, seed), (0.3, 0.5, 0.7, 0.95)[seed]
    cost = exact_costs(statistics, ratio)
    found = form_groups("min_flops", inputs_of(statistics, n_groups, seed, ratio))
    assert cost(found) == min(map(cost, every_partition(num_classes, n_groups)))


@pytest.mark.parametrize("num_classes", range(2, 7))
def test_every_partition_is_tried_once(num_classes: int) -> None:
    for n_groups in range(1, num_classes + 1):
        sizes = all_partitions.sizes_of(num_classes, n_groups)
        tried = [sorted(groups) for groups in all_partitions.partitions(tuple(range(num_classes)), sizes)]
        assert sorted(tried) == sorted(every_partition(num_classes, n_groups))
        assert len(tried) == all_partitions.number_of_partitions(num_classes, n_groups)


def test_up_to_ten_classes_all_are_tried() -> None:
    for num_classes in range(2, 11):
        for n_groups in range(2, num_classes):
            assert all_partitions.number_of_partitions(num_classes, n_groups) <= all_partitions.MOST_PARTITIONS


@pytest.mark.parametrize("seed", range(3))
def test_no_swap_is_left_that_would_be_cheaper(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_partitions, "MOST_PARTITIONS", 0)
    statistics = random_statistics(WIDTHS, 9, seed)
    cost = exact_costs(statistics, 0.6)
    groups = form_groups("min_flops", inputs_of(statistics, 3, seed, 0.6))
    for here, there in combinations(range(3), 2):
        for one, other in product(groups[here], groups[there]):
            moved = [set(group) for group in groups]
            moved[here] ^= {one, other}
            moved[there] ^= {one, other}
            assert cost([tuple(sorted(group)) for group in moved]) >= cost(groups)


@pytest.mark.parametrize("seed", range(3))
def test_cheaper_than_what_is_drawn(seed: int) -> None:
    statistics = random_statistics(WIDTHS, 24, seed)
    inputs, cost = inputs_of(statistics, 4, seed, 0.6), exact_costs(statistics, 0.6)
    costs = {method: cost(form_groups(method, inputs)) for method in ("random", "best_of_random", "min_flops")}
    assert costs["min_flops"] < costs["best_of_random"] < costs["random"]
    assert costs["best_of_random"] == min(cost(groups) for groups in drawn_again(24, 4, seed))


def drawn_again(num_classes: int, n_groups: int, seed: int) -> list[list[Group]]:
    """Return the hundred partitions of one generator, the first of which is that of `random`."""
    generator = np.random.default_rng(seed)
    draws = [np.array_split(generator.permutation(num_classes), n_groups) for _ in range(100)]
    return [[tuple(sorted(part.tolist())) for part in parts] for parts in draws]
