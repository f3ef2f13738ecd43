"""Every grouping method keeps the promises of all, and finds groups that are known by construction."""

import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensai.errors import InputError
from sensai.grouping.grouping_inputs import form_groups
from sensai.grouping.methods import METHODS
from sensai.grouping.similarities import class_similarity, confusion_similarity
from sensai.grouping.swaps import least_similar_groups, most_similar_groups
from tests.helpers.site_statistics import (
    inputs_of,
    planted_groups,
    planted_statistics,
    random_statistics,
    small_widths,
)

WIDTHS = small_widths()
COUNTED = [name for name in METHODS if "n_groups" in METHODS[name].uses and METHODS[name].traits["joinable"]]


def assert_even_partition(groups: list[tuple[int, ...]], num_classes: int, n_groups: int) -> None:
    sizes = [len(group) for group in groups]
    assert len(groups) == n_groups
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    assert sorted(label for group in groups for label in group) == list(range(num_classes))
    assert all(list(group) == sorted(group) for group in groups)
    json.dumps(groups)


@pytest.mark.parametrize("method", COUNTED)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(num_classes=st.integers(1, 12), share=st.floats(0, 1), seed=st.integers(0, 2**31 - 1))
def test_groups_are_an_even_partition(method: str, num_classes: int, share: float, seed: int) -> None:
    n_groups = 1 + int(share * (num_classes - 1))
    inputs = inputs_of(random_statistics(WIDTHS, num_classes, seed), n_groups, seed)
    groups = form_groups(method, inputs)
    assert_even_partition(groups, num_classes, n_groups)
    assert form_groups(method, inputs) == groups


@pytest.mark.parametrize("method", COUNTED)
def test_classes_that_nothing_tells_apart_are_grouped_all_the_same(method: str) -> None:
    statistics = random_statistics(WIDTHS, 1)
    same = {
        site: type(values)(
            np.repeat(values.zeros, 7, 0), np.repeat(values.magnitude, 7, 0), np.repeat(values.elements, 7)
        )
        for site, values in statistics.items()
    }
    assert_even_partition(form_groups(method, inputs_of(same, 3)), 7, 3)


@pytest.mark.parametrize("method", COUNTED)
def test_classes_without_images_are_grouped_all_the_same(method: str) -> None:
    statistics = random_statistics(WIDTHS, 7)
    gone = np.array([1, 1, 0, 0, 0, 1, 1])
    some = {
        site: type(values)(values.zeros * gone[:, None], values.magnitude * gone[:, None], values.elements * gone)
        for site, values in statistics.items()
    }
    assert_even_partition(form_groups(method, inputs_of(some, 3)), 7, 3)


def test_more_groups_than_classes_are_refused() -> None:
    with pytest.raises(InputError, match="n_groups=5: there are only 4 classes"):
        form_groups("kmeans", inputs_of(random_statistics(WIDTHS, 4), 5))


PLANTED = [(12, 3), (30, 5), (8, 4)]


def similarities(planted: list[tuple[int, ...]]) -> dict[str, np.ndarray | None]:
    """Return each `similarity` of the entry point for classes that use channels by known groups; None is the coupling."""
    num_classes = sum(map(len, planted))
    confusion = np.random.default_rng(0).integers(0, 3, (num_classes, num_classes)) + 80 * np.eye(
        num_classes, dtype=int
    )
    for group in planted:
        confusion[np.ix_(group, group)] += 10
    return {
        "coupling": None,
        "statistics": class_similarity(planted_statistics(WIDTHS, planted)),
        "confusion": confusion_similarity(confusion),
    }


@pytest.mark.parametrize("similarity", ["coupling", "statistics", "confusion"])
@pytest.mark.parametrize("method", ["spectral", "most_similar", "kmeans"])
@pytest.mark.parametrize(("num_classes", "n_groups"), PLANTED)
def test_known_groups_are_recovered(method: str, similarity: str, num_classes: int, n_groups: int) -> None:
    planted = planted_groups(num_classes, n_groups, seed=7)
    known = similarities(planted)[similarity]
    inputs = inputs_of(planted_statistics(WIDTHS, planted), n_groups, similarity=known)
    assert form_groups(method, inputs) == planted


@pytest.mark.parametrize("similarity", ["coupling", "statistics", "confusion"])
@pytest.mark.parametrize(("num_classes", "n_planted"), PLANTED)
def test_known_groups_are_taken_apart(similarity: str, num_classes: int, n_planted: int) -> None:
    planted = planted_groups(num_classes, n_planted, seed=7)
    known = similarities(planted)[similarity]
    inputs = inputs_of(planted_statistics(WIDTHS, planted), num_classes // n_planted, similarity=known)
    groups = form_groups("least_similar", inputs)
    for group in groups:
        assert all(len(set(group) & set(like)) == 1 for like in planted)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(num_classes=st.integers(2, 12), n_groups=st.integers(2, 5), seed=st.integers(0, 1000))
def test_no_swap_is_left_that_would_help(num_classes: int, n_groups: int, seed: int) -> None:
    n_groups = min(n_groups, num_classes)
    matrix = np.random.default_rng(seed).normal(size=(num_classes, num_classes))
    similarity = matrix + matrix.T

    def within(groups: list[tuple[int, ...]]) -> float:
        return sum(similarity[one, other] for group in groups for one, other in combinations(group, 2))

    for form, sign in ((most_similar_groups, 1), (least_similar_groups, -1)):
        groups = form(similarity, n_groups)
        best = sign * within(groups)
        for here, there in combinations(range(n_groups), 2):
            for one in groups[here]:
                for other in groups[there]:
                    moved = [set(group) for group in groups]
                    moved[here] ^= {one, other}
                    moved[there] ^= {one, other}
                    assert sign * within([tuple(group) for group in moved]) <= best + 1e-7
