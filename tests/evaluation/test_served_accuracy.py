"""The accuracy that an ensemble is served with, and the difference of accuracies on different images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm
from sklearn.metrics import log_loss

from sensai.ensemble.calibration import RAW, cross_fitted
from sensai.evaluation import Outputs, calibrated_accuracy, least_difference, likeliest
from tests.ensemble.test_calibration import MIXED, said

METHODS = ["raw", "temperature", "vector", "logistic"]


@pytest.mark.parametrize("groups", [MIXED, [(2, 0, 1)], [(0,), (1,)], [(1, 0), (2, 3)]], ids=str)
@pytest.mark.parametrize("noise", [0.3, 2.0])
def test_it_is_that_of_the_likeliest_combination_of_held_out_images(groups: list, noise: float) -> None:
    outputs, labels = said(groups, 97, noise=noise)
    held_out = {method: cross_fitted(method, outputs, groups, labels) for method in METHODS}
    chosen = min(METHODS, key=lambda method: log_loss(labels, held_out[method]))
    found = calibrated_accuracy(Outputs(labels, outputs), groups)
    assert found == (held_out[chosen].argmax(1) == labels).mean()
    assert likeliest(held_out, labels) == chosen


def test_scores_of_members_on_other_scales_are_made_comparable() -> None:
    """One member says "mine" far too readily, which costs raw accuracy; its scores tell the classes apart all the same."""
    outputs, labels = said([(0,), (1,), (2,)], 300, noise=0.3)
    outputs[0] = outputs[0] + 5
    raw = (RAW(outputs, [(0,), (1,), (2,)]).argmax(1) == labels).mean()
    assert raw < 0.8 < 0.9 < calibrated_accuracy(Outputs(labels, outputs), [(0,), (1,), (2,)])


def test_nothing_is_gained_by_combiners_that_know_the_images() -> None:
    """Outputs without information: a fit on all images would be right on far more than chance is."""
    generator = np.random.default_rng(0)
    groups = [tuple(range(1, 20)), (0,)]
    outputs = [generator.normal(size=(60, 20)).astype(np.float32), generator.normal(size=(60, 1)).astype(np.float32)]
    labels = np.arange(60) % 20
    assert calibrated_accuracy(Outputs(labels, outputs), groups) < 0.2


def test_the_folds_are_the_same_each_time() -> None:
    outputs, labels = said(MIXED, 80)
    assert len({calibrated_accuracy(Outputs(labels, outputs), MIXED) for _ in range(3)}) == 1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_images_are_enough(count: int) -> None:
    outputs, labels = said([(0,), (1,)], count)
    assert 0 <= calibrated_accuracy(Outputs(labels, outputs), [(0,), (1,)]) <= 1
    if count == 1:
        raw = RAW(outputs, [(0,), (1,)]).argmax(1) == labels
        assert calibrated_accuracy(Outputs(labels, outputs), [(0,), (1,)]) == raw.mean()


def test_of_equally_likely_ones_the_first_is_taken() -> None:
    same, surer = np.full((4, 2), 0.5), np.array([[0.9, 0.1]] * 4)
    labels = np.zeros(4, np.int64)
    assert likeliest({"raw": same, "vector": same}, labels) == "raw"
    assert likeliest({"raw": same, "vector": surer}, labels) == "vector"


def right(count: int, images: int) -> np.ndarray:
    return np.arange(images) < count


def newcombe(count_a: int, images_a: int, count_b: int, images_b: int) -> float:
    """Return the lower bound of the one-sided 99.9 % interval as the paper has it, from Wilson's closed form."""
    z = norm.ppf(0.999)

    def wilson(count: int, images: int) -> tuple[float, float]:
        share = count / images
        middle, half = 2 * count + z**2, z * np.sqrt(z**2 + 4 * count * (1 - share))
        return (middle - half) / (2 * (images + z**2)), (middle + half) / (2 * (images + z**2))

    a, b = count_a / images_a, count_b / images_b
    return a - b - np.sqrt((a - wilson(count_a, images_a)[0]) ** 2 + (wilson(count_b, images_b)[1] - b) ** 2)


shares = st.integers(1, 500).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images)))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(shares, shares)
def test_the_least_difference_is_newcombes(a: tuple[int, int], b: tuple[int, int]) -> None:
    found = least_difference(right(*a), right(*b))
    assert found == pytest.approx(newcombe(*a, *b), abs=1e-9)
    assert -1 <= found <= a[0] / a[1] - b[0] / b[1]


def test_equal_accuracies_seldom_seem_to_differ() -> None:
    """The probability of a bound above zero, by all outcomes of two samples of one accuracy."""
    images_a, images_b, accuracy = 30, 40, 0.9
    chance = sum(
        binom.pmf(a, images_a, accuracy) * binom.pmf(b, images_b, accuracy)
        for a in range(images_a + 1)
        for b in range(int(images_b * a / images_a) + 1)
        if least_difference(right(a, images_a), right(b, images_b)) > 0
    )
    assert chance < 0.002
