"""Decision thresholds of members equal a search over all cuts, and move with the offset of the scores."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sensai.data.batches import Normalization
from sensai.ensemble import Ensemble, Member
from sensai.ensemble.calibration import stratified_folds
from sensai.evaluation import (
    Outputs,
    cross_fitted_thresholds,
    fitted_thresholds,
    member_metrics,
    natural_thresholds,
)
from sensai.evaluation.decision_thresholds import NATURAL, fit_thresholds, member_scores
from sensai.models.factory import NetworkSpec

SPEC = NetworkSpec("small_cnn", 10, 1, (8, 8), {}, "")
# Few values, so that many scores are equal.
SCORES = st.lists(st.integers(-3, 3), min_size=2, max_size=20)


@st.composite
def judged(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Generate scores with ties, and which images are the member's own; both kinds occur."""
    scores = draw(SCORES)
    own = draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    own[:2] = [True, False]
    return np.array(scores, np.float64), np.array(own)


def ensemble_of(groups: list[tuple[int, ...]], num_classes: int) -> Ensemble:
    names = tuple(f"class {label}" for label in range(num_classes))
    members = [Member(group, nn.Identity()) for group in groups]
    return Ensemble(members, names, SPEC, Normalization((0.0,), (1.0,)))


def accuracy(scores: np.ndarray, own: np.ndarray, threshold: float) -> float:
    return sum((score > threshold) == mine for score, mine in zip(scores, own, strict=True)) / len(own)


def balanced_accuracy(scores: np.ndarray, own: np.ndarray, threshold: float) -> float:
    recalls = [accuracy(scores[own == mine], own[own == mine], threshold) for mine in (True, False)]
    return sum(recalls) / 2


@settings(deadline=None)
@given(judged())
def test_no_cut_is_better_than_the_fitted_one(given_scores: tuple[np.ndarray, np.ndarray]) -> None:
    scores, own = given_scores
    fitted = fit_thresholds(scores, own)
    cuts = [-np.inf, *np.unique(scores), np.inf]
    for measure, threshold in ((accuracy, fitted.accuracy), (balanced_accuracy, fitted.balanced_accuracy)):
        values = {float(cut): measure(scores, own, cut) for cut in cuts}
        best = max(values.values())
        assert measure(scores, own, threshold) == pytest.approx(best)
        # Accuracy is never below that of the same answer to all images.
        assert best >= max(values[-np.inf], values[np.inf])
    assert fitted.source == "fitted"


@settings(deadline=None)
@given(judged(), st.integers(-100, 100))
def test_thresholds_move_with_the_offset(given_scores: tuple[np.ndarray, np.ndarray], offset: int) -> None:
    scores, own = given_scores
    before, after = fit_thresholds(scores, own), fit_thresholds(scores + offset, own)
    assert after.accuracy == before.accuracy + offset
    assert after.balanced_accuracy == before.balanced_accuracy + offset


def test_a_threshold_is_half_way_between_the_scores_it_divides() -> None:
    scores, own = np.array([-1.0, 0.0, 2.0, 5.0]), np.array([False, False, True, True])
    fitted = fit_thresholds(scores, own)
    assert (fitted.accuracy, fitted.balanced_accuracy) == (1.0, 1.0)


def test_each_metric_has_its_own_threshold() -> None:
    # One own image of ten, and two others score higher: "no" to all has the best accuracy, but half the recall.
    scores, own = np.arange(10.0), np.arange(10) == 7
    fitted = fit_thresholds(scores, own)
    assert accuracy(scores, own, fitted.accuracy) == 0.9
    assert np.isinf(fitted.accuracy)
    assert fitted.balanced_accuracy == 6.5


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_equal_scores_get_one_answer(share: float) -> None:
    own = np.arange(20) < share * 20
    fitted = fit_thresholds(np.zeros(20), own)
    assert accuracy(np.zeros(20), own, fitted.accuracy) == pytest.approx(max(share, 1 - share))
    assert balanced_accuracy(np.zeros(20), own, fitted.balanced_accuracy) == 0.5


@pytest.mark.parametrize("own", [np.zeros(3, bool), np.ones(3, bool), np.zeros(0, bool)])
def test_with_one_kind_of_images_the_threshold_is_natural(own: np.ndarray) -> None:
    assert fit_thresholds(np.arange(float(len(own))), own) is NATURAL
    assert (NATURAL.accuracy, NATURAL.balanced_accuracy, NATURAL.source) == (0, 0, "natural")


def test_scores_are_the_log_odds_of_a_members_classes() -> None:
    generator = np.random.default_rng(0)
    binary, group = (generator.normal(0, 3, (9, width)).astype(np.float32) for width in (1, 4))
    assert member_scores(binary).tolist() == binary[:, 0].tolist()
    exact = np.exp(group.astype(np.float64))
    none = exact[:, 0] / exact.sum(1)
    np.testing.assert_allclose(member_scores(group), np.log((1 - none) / none), rtol=1e-10)
    assert np.isfinite(member_scores(np.array([[-1e4, 1e4, 0]], np.float32))).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), images=st.integers(1, 30))
def test_the_threshold_of_an_image_is_fitted_without_its_fold(seed: int, images: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, images)
    outputs = Outputs(labels, [generator.normal(size=(images, width)).astype(np.float32) for width in (1, 3)])
    ensemble = ensemble_of([(0,), (2, 3)], 4)
    folds = stratified_folds(labels)
    found = cross_fitted_thresholds(outputs, ensemble)
    for thresholds, logits, group in zip(found, outputs.members, ensemble.groups, strict=True):
        assert thresholds is not None
        own = np.isin(labels, group)
        if own.all() or not own.any():
            assert thresholds is NATURAL
            continue
        assert thresholds.source == "cross-fitted"
        for image in range(images):
            others = folds != folds[image]
            expected = fit_thresholds(member_scores(logits)[others], own[others])
            assert thresholds.accuracy[image] == expected.accuracy
            assert thresholds.balanced_accuracy[image] == expected.balanced_accuracy


def test_folds_have_their_share_of_each_class() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 10, 23]))
    folds = stratified_folds(labels)
    for label in range(3):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_a_member_of_all_classes_has_no_threshold() -> None:
    labels = np.arange(10) % 2
    outputs = Outputs(labels, [np.zeros((10, 2), np.float32), np.arange(10, dtype=np.float32)[:, None]])
    ensemble = ensemble_of([(1, 0), (1,)], 2)
    everyone, binary = fitted_thresholds(outputs, ensemble)
    assert everyone is None
    assert binary is not None
    assert [cross_fitted_thresholds(outputs, ensemble)[0], natural_thresholds(ensemble)[0]] == [None, None]
    assert natural_thresholds(ensemble)[1] is NATURAL


def test_noise_looks_like_noise_when_cross_fitted() -> None:
    """Fitted and judged on the same 20 images, noise would be right more often than not."""
    ensemble, labels = ensemble_of([(0,)], 2), np.arange(20) % 2
    values: dict[str, list[float]] = {"fitted": [], "cross-fitted": []}
    for seed in range(40):
        scores = np.random.default_rng(seed).normal(size=20).astype(np.float32)
        outputs = Outputs(labels, [scores[:, None]])
        for (thresholds,) in (fitted_thresholds(outputs, ensemble), cross_fitted_thresholds(outputs, ensemble)):
            assert thresholds is not None
            # Both kinds of images are equally frequent, so this is the mean recall.
            values[thresholds.source].append(((scores > thresholds.balanced_accuracy) == (labels == 0)).mean())
    assert np.mean(values["fitted"]) > 0.6
    assert 0.45 < np.mean(values["cross-fitted"]) < 0.55


@pytest.mark.parametrize("group", [(0,), (0, 1)])
def test_an_offset_of_the_outputs_changes_no_metric_of_a_member(group: tuple[int, ...]) -> None:
    """A joint loss leaves the offset between "none" and the classes open."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 200)
    width = 1 if len(group) == 1 else 1 + len(group)
    logits = generator.normal(size=(200, width)).astype(np.float32)
    for column, label in enumerate(group, width - len(group)):
        logits[labels == label, column] += 2
    shifted = logits.copy()
    shifted[:, width - len(group) :] += 32
    ensemble = ensemble_of([group], 4)
    before, after = (
        member_metrics(outputs, ensemble, fitted_thresholds(outputs, ensemble))[0]
        for outputs in (Outputs(labels, [logits]), Outputs(labels, [shifted]))
    )
    assert after == pytest.approx(before)
    assert before["binary_accuracy"] >= max(np.isin(labels, group).mean(), 1 - np.isin(labels, group).mean())
    natural = member_metrics(Outputs(labels, [shifted]), ensemble, natural_thresholds(ensemble))[0]
    # Every image is taken for one of the member's own.
    assert natural["balanced_accuracy"] == 0.5
    assert natural["none_accuracy"] == 0


def test_thresholds_are_fitted_on_one_split_and_judge_another() -> None:
    ensemble = ensemble_of([(0,)], 2)
    val = Outputs(np.array([0, 0, 1, 1]), [np.array([[9.0], [8.0], [4.0], [3.0]], np.float32)])
    test = Outputs(np.array([0, 0, 1, 1]), [np.array([[7.0], [5.0], [6.5], [-1.0]], np.float32)])
    (fitted,) = fitted_thresholds(val, ensemble)
    assert fitted is not None
    assert fitted.accuracy == fitted.balanced_accuracy == 6.0
    (metrics,) = member_metrics(test, ensemble, [fitted])
    assert metrics["binary_accuracy"] == metrics["balanced_accuracy"] == 0.5
    assert metrics["roc_auc"] == 0.75


def precision_at_each_recall(scores: np.ndarray, own: np.ndarray) -> float:
    """Return the average precision: over falling cuts, the gain in recall times the precision there."""
    cuts = sorted(set(scores.tolist()), reverse=True)
    recalls, precisions = [0.0], []
    for cut in cuts:
        yes = scores >= cut
        recalls.append((yes & own).sum() / own.sum())
        precisions.append((yes & own).sum() / yes.sum())
    return sum((now - before) * each for (before, now), each in zip(pairwise(recalls), precisions, strict=True))


@settings(max_examples=50, deadline=None)
@given(judged())
def test_ranking_metrics_equal_a_count(given_scores: tuple[np.ndarray, np.ndarray]) -> None:
    scores, own = given_scores
    outputs, ensemble = Outputs(np.where(own, 0, 1), [scores[:, None].astype(np.float32)]), ensemble_of([(0,)], 2)
    (metrics,) = member_metrics(outputs, ensemble, [NATURAL])
    above = scores[own][:, None] - scores[~own]
    assert metrics["roc_auc"] == pytest.approx(((above > 0) + 0.5 * (above == 0)).mean())
    assert metrics["average_precision"] == pytest.approx(precision_at_each_recall(scores, own))
    assert metrics["binary_accuracy"] == pytest.approx(accuracy(scores, own, 0))
    assert metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy(scores, own, 0))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_with_one_kind_of_images_there_are_no_ranking_metrics(labels: list[int]) -> None:
    outputs, ensemble = Outputs(np.array(labels), [np.ones((3, 1), np.float32)]), ensemble_of([(0,)], 2)
    (metrics,) = member_metrics(outputs, ensemble, fitted_thresholds(outputs, ensemble))
    right = 1.0 if labels[0] == 0 else 0.0
    assert (metrics["binary_accuracy"], metrics["balanced_accuracy"]) == (right, right)
    assert not {"roc_auc", "average_precision"} & metrics.keys()
