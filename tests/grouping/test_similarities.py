"""Similarities of classes equal loops, and the leaf order shows them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensai.activations import SiteStatistics
from sensai.grouping.samples import sample_groups
from sensai.grouping.similarities import class_similarity, confusion_similarity, coupling_means, leaf_order
from tests.helpers.site_statistics import planted_groups, planted_statistics, random_statistics


@settings(max_examples=40, deadline=None, derandomize=True)
@given(num_classes=st.integers(2, 8), n_groups=st.integers(1, 8), seed=st.integers(0, 1000))
def test_coupling_means_equal_a_loop_over_pairs(num_classes: int, n_groups: int, seed: int) -> None:
    groups = sample_groups(num_classes, min(n_groups, num_classes), seed)
    generator = np.random.default_rng(seed)
    coupling = generator.integers(0, 50, (num_classes, num_classes))
    coupling = coupling + coupling.T
    within, between = [], []
    for first in range(num_classes):
        for second in range(first):
            together = any(first in group and second in group for group in groups)
            (within if together else between).append(int(coupling[first, second]))
    means = coupling_means(coupling, groups)
    assert means.keys() == {
        name for name, values in (("coupling_within", within), ("coupling_between", between)) if values
    }
    for name, values in (("coupling_within", within), ("coupling_between", between)):
        if values:
            assert means[name] == pytest.approx(sum(values) / len(values))


def test_the_similarity_of_statistics_is_a_correlation_of_zeros() -> None:
    statistics = random_statistics({"a": 7, "b": 5}, num_classes=4)
    similarity = class_similarity(statistics)
    for first in range(4):
        for second in range(4):
            shares = [np.concatenate([site.zeros[label] for site in statistics.values()]) for label in (first, second)]
            assert similarity[first, second] == pytest.approx(np.corrcoef(*shares)[0, 1])


def test_a_class_without_images_is_like_no_other() -> None:
    statistics = random_statistics({"a": 7}, num_classes=3)
    site = statistics["a"]
    empty = SiteStatistics(
        site.zeros * [[1], [0], [1]], site.magnitude * [[1], [0], [1]], site.elements * np.array([1, 0, 1])
    )
    similarity = class_similarity({"a": empty})
    assert similarity[1].tolist() == similarity[:, 1].tolist() == [0, 0, 0]
    assert similarity[0, 2] != 0


def test_confusion_is_the_mean_share_of_both_directions() -> None:
    confusion = np.array([[8, 2, 0], [1, 3, 0], [0, 0, 0]])
    similarity = confusion_similarity(confusion)
    assert similarity[0, 1] == similarity[1, 0] == pytest.approx((2 / 10 + 1 / 4) / 2)
    assert similarity[2].tolist() == similarity[:, 2].tolist() == [0, 0, 0]


@pytest.mark.parametrize("num_classes", [1, 2])
def test_one_or_two_classes_are_in_order(num_classes: int) -> None:
    assert leaf_order(np.ones((num_classes, num_classes))).tolist() == list(range(num_classes))


@pytest.mark.parametrize("num_classes", [12, 240])
def test_the_order_puts_like_beside_like(num_classes: int) -> None:
    planted = planted_groups(num_classes, 4, seed=1)
    order = leaf_order(class_similarity(planted_statistics({"a": 40}, planted))).tolist()
    assert sorted(order) == list(range(num_classes))
    assert sorted(tuple(sorted(run.tolist())) for run in np.split(np.array(order), 4)) == planted
