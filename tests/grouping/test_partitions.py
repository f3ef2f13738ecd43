"""Even partitions."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensai.grouping.partitions import balanced, groups_of, labels_of, singletons
from sensai.grouping.samples import sample_groups


def test_singletons_are_every_class_once() -> None:
    assert singletons(4) == [(0,), (1,), (2,), (3,)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(num_classes=st.integers(1, 30), share=st.floats(0, 1), seed=st.integers(0, 2**31 - 1))
def test_random_groups_partition_the_classes_evenly(num_classes: int, share: float, seed: int) -> None:
    n_groups = 1 + int(share * (num_classes - 1))
    groups = sample_groups(num_classes, n_groups, seed)
    assert len(groups) == n_groups
    assert sorted(label for group in groups for label in group) == list(range(num_classes))
    sizes = [len(group) for group in groups]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    assert groups == sample_groups(num_classes, n_groups, seed)


def test_random_groups_depend_on_the_seed() -> None:
    assert len({str(sample_groups(10, 3, seed)) for seed in range(5)}) == 5


def test_random_groups_are_the_same_on_every_platform() -> None:
    assert sample_groups(10, 3, seed=0) == [(2, 4, 6, 7), (3, 5, 9), (0, 1, 8)]
    assert sample_groups(7, 2, seed=2**31 - 1) == [(0, 4, 5, 6), (1, 2, 3)]


def test_one_group_holds_all_classes() -> None:
    assert sample_groups(5, 1, seed=3) == [(0, 1, 2, 3, 4)]


def test_equal_partitions_are_equal_lists() -> None:
    assert groups_of(np.array([1, 0, 1, 2])) == groups_of(np.array([0, 2, 0, 1])) == [(0, 2), (1,), (3,)]
    assert labels_of([(0, 2), (1,), (3,)]).tolist() == [0, 1, 0, 2]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(num_classes=st.integers(1, 6), n_groups=st.integers(1, 6), seed=st.integers(0, 1000))
def test_the_even_assignment_costs_least(num_classes: int, n_groups: int, seed: int) -> None:
    n_groups = min(n_groups, num_classes)
    # Some costs differ little relative to their size, and some are all zero.
    scale = (1.0, 1e-6, 0.0)[seed % 3]
    costs = 5 + scale * np.random.default_rng(seed).normal(size=(num_classes, n_groups))
    labels = balanced(costs)

    def even(labels: tuple[int, ...]) -> bool:
        sizes = np.bincount(labels, minlength=n_groups)
        return sizes.max() - sizes.min() <= 1

    everyone = np.arange(num_classes)
    least = min(
        costs[everyone, list(each)].sum() for each in product(range(n_groups), repeat=num_classes) if even(each)
    )
    assert even(tuple(labels))
    assert costs[everyone, labels].sum() == pytest.approx(least, abs=1e-12)
