"""Groups that share classes: every class is in so many of them, and their numbers of classes differ by at most one."""

import json
from collections import Counter
from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensai.errors import InputError
from sensai.grouping.grouping_inputs import GroupingInputs, form_groups
from sensai.grouping.methods import METHODS
from sensai.grouping.overlaps import Design, Ring, offsets_of
from sensai.grouping.partitions import Group, membership
from tests.helpers.site_statistics import inputs_of, random_statistics, small_widths

WIDTHS = small_widths()
JOINABLE = [name for name in METHODS if METHODS[name].traits["joinable"]]


def overlapping(method: str, inputs: GroupingInputs, overlap: int, design: Design = "ring") -> list[Group]:
    return form_groups(method, replace(inputs, overlap=overlap, overlap_design=design))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_takes_what_its_companions_need(method: str) -> None:
    joinable, uses = METHODS[method].traits["joinable"], METHODS[method].uses
    assert joinable in ("similar", "dissimilar", "cheap", "random", None)
    assert joinable != "cheap" or "costs" in uses
    assert joinable != "random" or "seed" in uses


@pytest.mark.parametrize("method", JOINABLE)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(num_classes=st.integers(3, 12), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)), seed=st.integers(0, 1000))
def test_every_class_is_in_so_many_members(
    method: str, num_classes: int, shares: tuple[float, float], seed: int
) -> None:
    n_groups = num_classes if "n_groups" not in METHODS[method].uses else 3 + int(shares[0] * (num_classes - 3))
    overlap = 2 + int(shares[1] * (n_groups - 3))
    inputs = inputs_of(random_statistics(WIDTHS, num_classes, seed), n_groups, seed)
    groups = overlapping(method, inputs, overlap)
    assert len(groups) == n_groups
    assert set(Counter(label for group in groups for label in group).values()) == {overlap}
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    assert all(list(group) == sorted(set(group)) for group in groups)
    assert overlapping(method, inputs, overlap) == groups
    json.dumps(groups)


@pytest.mark.parametrize("num_classes", [1000, 997])
def test_a_thousand_classes(num_classes: int) -> None:
    inputs = inputs_of(random_statistics(WIDTHS, num_classes), 100, similarity=ring_of(num_classes))
    groups = overlapping("most_similar", inputs, 2)
    assert set(Counter(label for group in groups for label in group).values()) == {2}
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


def ring_of(count: int) -> np.ndarray:
    """Return similarities of classes on a circle: the nearer, the larger."""
    angles = 2 * np.pi * np.arange(count) / count
    return np.cos(angles[:, None] - angles[None])


def test_a_ring_of_similar_pairs_is_found() -> None:
    order = np.random.default_rng(3).permutation(10)
    similarity = np.empty((10, 10))
    similarity[np.ix_(order, order)] = ring_of(10)
    groups = overlapping("most_similar", inputs_of(random_statistics(WIDTHS, 10), 5, similarity=similarity), 2)
    # Four neighbours on the circle each.
    neighbours = {frozenset(np.roll(order, -shift)[:4].tolist()) for shift in range(10)}
    assert {frozenset(group) for group in groups} <= neighbours


def test_no_swap_of_parts_is_left_that_would_help() -> None:
    generator = np.random.default_rng(0)
    similarity = generator.random((9, 9))
    similarity += similarity.T
    ring = Ring([(label,) for label in range(9)], 3, "ring")
    score = ring.by_similarity(similarity)
    order = ring.descended(np.arange(9), score, generator, 10_000)
    for one, other in combinations(range(9), 2):
        swapped = order.copy()
        swapped[[one, other]] = swapped[[other, one]]
        assert score(swapped) >= score(order) - 1e-12


def test_scores_are_the_sums_within_groups() -> None:
    similarity = np.random.default_rng(1).random((12, 12))
    similarity += similarity.T
    parts = [(0, 5), (1, 2), (3, 4), (6, 11), (7, 8), (9, 10)]
    for design, overlap in (("ring", 2), ("ring", 3), ("balanced", 3)):
        ring = Ring(parts, overlap, design)
        sums = []
        for order in permutations(range(6)):
            groups = ring.groups(np.array(order))
            within = sum(similarity[a, b] for group in groups for a, b in combinations(group, 2))
            # Pairs within one part are in each of its groups, whatever the order.
            within -= overlap * sum(similarity[a, b] for a, b in parts)
            sums.append(within + ring.by_similarity(similarity)(np.array(order)))
        np.testing.assert_allclose(sums, 0, atol=1e-9)


def test_the_cheapest_ring_is_no_more_expensive_than_its_start() -> None:
    inputs = inputs_of(random_statistics(WIDTHS, 10), 5)
    parts = form_groups("min_flops", inputs)
    start = Ring(parts, 2, "ring").groups(np.arange(5))
    assert inputs.costs.of(overlapping("min_flops", inputs, 2)) <= inputs.costs.of(start)


@pytest.mark.parametrize(("n_groups", "overlap"), [(7, 3), (13, 4), (21, 5)])
def test_balanced_offsets_are_difference_designs(n_groups: int, overlap: int) -> None:
    """Any two places are together once, where such a design exists and the greedy choice finds it."""
    offsets = offsets_of(n_groups, overlap, "balanced")
    together = Counter((a - b) % n_groups for a, b in permutations(offsets, 2))
    if n_groups == 21:
        assert max(together.values()) <= 2
    else:
        assert together == dict.fromkeys(range(1, n_groups), 1)


def test_balanced_designs_share_more_evenly_than_rings() -> None:
    inputs = inputs_of(random_statistics(WIDTHS, 14), 7)

    def most_shared(design: Design) -> int:
        table = membership(overlapping("random", inputs, 3, design), 14).astype(int)
        shared = table.T @ table
        return int(shared[~np.eye(7, dtype=bool)].max())

    assert (most_shared("balanced"), most_shared("ring")) == (2, 4)


@pytest.mark.parametrize("overlap", [5, 6])
def test_an_overlap_of_all_groups_is_refused(overlap: int) -> None:
    with pytest.raises(InputError, match=f"overlap={overlap}: must be below the number of groups, 5"):
        overlapping("random", inputs_of(random_statistics(WIDTHS, 10), 5), overlap)


def test_a_balanced_design_of_uneven_members_is_refused() -> None:
    with pytest.raises(InputError, match=r"overlap_design='balanced': .*; use overlap_design=ring"):
        overlapping("random", inputs_of(random_statistics(WIDTHS, 10), 7), 3, "balanced")


def test_replicas_have_all_classes_and_may_be_more_than_these() -> None:
    inputs = inputs_of(random_statistics(WIDTHS, 3), 5)
    assert form_groups("replicas", inputs) == [(0, 1, 2)] * 5
    assert form_groups("replicas", replace(inputs, n_groups=1)) == [(0, 1, 2)]


def test_specialists_stand_beside_one_of_all_classes() -> None:
    """The two planted parts of nine classes that are confused most get members; a part of unconfused classes does not."""
    confusion = np.full((9, 9), 0.01)
    for group, how_often in (((0, 4, 8), 0.5), ((1, 2, 3), 0.02), ((5, 6, 7), 0.3)):
        confusion[np.ix_(group, group)] = how_often
    inputs = inputs_of(random_statistics(WIDTHS, 9), 3, similarity=confusion)
    assert form_groups("specialists", inputs) == [tuple(range(9)), (0, 4, 8), (5, 6, 7)]
    assert form_groups("specialists", replace(inputs, n_groups=1)) == [tuple(range(9))]
    assert len(form_groups("specialists", replace(inputs, n_groups=50))) == 4


@pytest.mark.parametrize("num_classes", [1, 2, 3, 4, 10, 30])
def test_specialists_of_any_number_of_classes(num_classes: int) -> None:
    groups = form_groups("specialists", inputs_of(random_statistics(WIDTHS, num_classes), 4))
    assert groups[0] == tuple(range(num_classes))
    assert all(1 < len(group) < num_classes for group in groups[1:])
