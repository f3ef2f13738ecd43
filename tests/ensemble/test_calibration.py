"""Members' outputs as class probabilities: each fit equals a direct computation."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sensai.ensemble import combine
from sensai.ensemble.calibration import (
    RAW,
    Calibration,
    class_contrasts,
    cross_fitted,
    fit,
    methods_for,
    rejection_threshold,
)
from sensai.ensemble.combiners import COMBINERS
from sensai.errors import InputError
from sensai.grouping.partitions import number_of_classes

Groups = list[tuple[int, ...]]
MIXED: Groups = [(3,), (2, 0), (1,)]
SHARED: Groups = [(0, 1), (1, 2), (0, 2, 3), (3,)]
REPLICAS: Groups = [(0, 1, 2), (0, 1, 2), (2, 0, 1)]
# A small network of all classes, and a member for two of them.
SPECIALIST: Groups = [(0, 1, 2, 3), (1, 3)]
EVERY = list(COMBINERS)
FITTED = [name for name in COMBINERS if COMBINERS[name].uses]
PER_CLASS = [name for name in COMBINERS if COMBINERS[name].traits["per_class"]]


def said(groups: Groups, count: int = 200, seed: int = 0, noise: float = 2.0) -> tuple[list[np.ndarray], np.ndarray]:
    """Return outputs of members with information, each on a scale of its own, and labels in which every class occurs."""
    generator, num_classes = np.random.default_rng(seed), number_of_classes(groups)
    labels = generator.permutation(np.arange(count) % num_classes)
    outputs = []
    for number, group in enumerate(groups):
        own = labels[:, None] == np.array(group)
        first = [~own.any(1, keepdims=True)] if 1 < len(group) < num_classes else []
        wanted = np.hstack([*first, own])
        outputs.append(((number + 1) * (wanted + generator.normal(0, noise, wanted.shape))).astype(np.float32))
    return outputs, labels


def class_logits(outputs: list[np.ndarray], groups: Groups) -> np.ndarray:
    """Return float64 (N, K), computed class by class."""
    num_classes = number_of_classes(groups)
    logits = np.zeros((len(outputs[0]), num_classes))
    for output, group in zip(outputs, groups, strict=True):
        for position, label in enumerate(group):
            column = output[:, output.shape[1] - len(group) + position].astype(np.float64)
            if len(group) == num_classes:
                logits[:, label] += column / sum(len(each) == num_classes for each in groups)
            else:
                logits[:, label] += column - output[:, 0] if len(group) > 1 else column
    return logits


def loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the negative log likelihood of the labels and of one more image with a random one of them."""
    shares = log_softmax(logits, axis=1)
    doubt = 1 / (len(labels) + 1)
    return -np.mean((1 - doubt) * shares[np.arange(len(labels)), labels] + doubt * shares.mean(1))


def owners_of(outputs: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.full(output.shape[1], number) for number, output in enumerate(outputs)])


@pytest.mark.parametrize("groups", [MIXED, [(2, 0, 1)], [(0,), (1,)], SHARED, REPLICAS, SPECIALIST], ids=str)
@pytest.mark.parametrize("name", EVERY)
def test_every_combiner_keeps_the_protocol(name: str, groups: Groups) -> None:
    outputs, labels = said(groups)
    contrasts = class_contrasts(groups)
    inputs = SimpleNamespace(
        outputs=np.hstack(outputs).astype(np.float64), contrasts=contrasts, labels=labels, owners=owners_of(outputs)
    )
    given = {key: value.copy() for key, value in vars(inputs).items()}
    part = COMBINERS[name]
    fitted = part(inputs)
    assert all(np.array_equal(value, given[key]) for key, value in vars(inputs).items())
    if fitted is None:
        assert not part.uses
        return
    weight, bias = fitted
    assert (weight.shape, weight.dtype, bias.shape, bias.dtype) == (contrasts.shape, float, contrasts.shape[:1], float)
    for each, again in zip(fitted, part(inputs), strict=True):
        np.testing.assert_array_equal(each, again)
    scores = inputs.outputs @ weight.T + bias
    # The fit is at least as likely as the class logits as they are.
    assert loss(scores, labels) <= loss(inputs.outputs @ contrasts.T, labels) + 1e-6
    count = part.traits["weights"]
    assert count is None or 0 <= count(*contrasts.shape) <= contrasts.size


def test_a_combiner_that_returns_no_map_to_the_classes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(COMBINERS, "_parts", dict(COMBINERS._parts))
    COMBINERS.register("transposed", "of this test")(lambda contrasts: (contrasts.T, np.zeros(len(contrasts))))
    COMBINERS.register("endless", "of this test")(lambda contrasts: (contrasts, np.full(len(contrasts), np.inf)))
    outputs, labels = said(MIXED)
    for name in ("transposed", "endless"):
        with pytest.raises(InputError, match=f"combine='{name}': returned weight .* both must be finite, of shapes "):
            fit(name, outputs, MIXED, labels)
        assert name not in methods_for(MIXED, 100)


def test_what_the_code_before_the_family_stored_is_read_and_fitted_alike() -> None:
    """The file holds what `to_json` returned, and the probabilities, when the methods stood in one module."""
    stored = json.loads((Path(__file__).parent / "stored_calibrations.json").read_text())
    groups = [tuple(group) for group in stored["groups"]]
    outputs = [np.array(each) for each in stored["outputs"]]
    # Combiners that came later are not in it.
    assert set(stored["calibrations"]) == set(EVERY) - {"log_linear"}
    for name, content in stored["calibrations"].items():
        read = Calibration.from_json(content)
        assert read.to_json() == content
        few = read([each[:3] for each in outputs], groups)
        np.testing.assert_allclose(few, stored["probabilities"][name], rtol=1e-12)
        fitted = fit(name, outputs, groups, np.array(stored["labels"]))
        np.testing.assert_allclose(fitted([each[:3] for each in outputs], groups), few, rtol=1e-5)


@pytest.mark.parametrize(
    "groups", [MIXED, [(0,), (1,), (2,)], [(2, 0, 1)], [(1, 0), (2, 3)], SHARED, REPLICAS, SPECIALIST], ids=str
)
def test_class_logits_are_log_odds_against_none(groups: Groups) -> None:
    outputs, _ = said(groups)
    found = np.hstack(outputs).astype(np.float64) @ class_contrasts(groups).T
    np.testing.assert_allclose(found, class_logits(outputs, groups), atol=1e-12)


@pytest.mark.parametrize("groups", [MIXED, [(2, 0, 1)], [(0,), (1,)]], ids=str)
def test_raw_is_what_the_ensemble_computes(groups: Groups) -> None:
    outputs, labels = said(groups)
    expected = combine([torch.from_numpy(each).double() for each in outputs], groups, labels.max() + 1).numpy()
    assert fit("raw", outputs, groups, labels) is RAW
    np.testing.assert_array_equal(RAW(outputs, groups), expected)


@pytest.mark.parametrize("groups", [SHARED, REPLICAS, SPECIALIST], ids=str)
def test_raw_scores_of_shared_classes_are_means(groups: Groups) -> None:
    outputs, _ = said(groups)
    num_classes = number_of_classes(groups)
    scores = np.empty((len(outputs[0]), num_classes))
    for label in range(num_classes):
        own = []
        for output, group in zip(outputs, groups, strict=True):
            if label in group:
                logits = output.astype(np.float64)
                shares = 1 / (1 + np.exp(-logits)) if len(group) == 1 else softmax(logits, axis=1)
                own.append(shares[:, output.shape[1] - len(group) + group.index(label)])
        scores[:, label] = np.mean(own, axis=0)
    np.testing.assert_allclose(RAW(outputs, groups), scores / scores.sum(1, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize("groups", [SHARED, REPLICAS, SPECIALIST, MIXED], ids=str)
def test_no_other_weights_of_members_are_better(groups: Groups) -> None:
    outputs, labels = said(groups)
    calibration = fit("log_linear", outputs, groups, labels)
    contrasts, owners = class_contrasts(groups), owners_of(outputs)
    ratio = (calibration.weight * contrasts).sum(0) / (contrasts**2).sum(0)
    weights = torch.tensor([ratio[owners == number][0] for number in range(len(groups))], requires_grad=True)
    biases = torch.from_numpy(calibration.bias).requires_grad_()
    logits = torch.zeros(len(labels), number_of_classes(groups), dtype=torch.float64) + biases
    for number, output in enumerate(outputs):
        own = torch.from_numpy(output).double() @ torch.from_numpy(contrasts[:, owners == number]).T
        logits = logits + weights[number] * own
    shares = torch.log_softmax(logits, 1)
    doubt = 1 / (len(labels) + 1)
    told = shares[torch.arange(len(labels)), torch.from_numpy(labels)]
    (-((1 - doubt) * told + doubt * shares.mean(1)).mean()).backward()
    assert weights.grad.abs().max() < 1e-5
    assert biases.grad.abs().max() < 1e-5
    np.testing.assert_allclose(calibration(outputs, groups), shares.detach().exp(), atol=1e-9)


def test_members_are_weighted_where_they_share_classes() -> None:
    assert "log_linear" in methods_for(SHARED, 100)
    assert "log_linear" in methods_for(REPLICAS, 100)
    assert "log_linear" not in methods_for(MIXED, 100)
    assert methods_for([tuple(range(1000))] * 5, 100) == ["temperature", "vector", "log_linear"]


@pytest.mark.parametrize("groups", [MIXED, [(2, 0, 1)], [(0,), (1,)]], ids=str)
def test_the_temperature_is_that_of_a_fine_grid(groups: Groups) -> None:
    outputs, labels = said(groups)
    logits = class_logits(outputs, groups)
    inverses = np.geomspace(0.02, 10, 700)
    best = inverses[np.argmin([loss(inverse * logits, labels) for inverse in inverses])]
    calibration = fit("temperature", outputs, groups, labels)
    assert not calibration.bias.any()
    assert np.abs(calibration.weight).max() == pytest.approx(best, rel=0.006)
    np.testing.assert_allclose(
        calibration(outputs, groups), softmax(np.abs(calibration.weight).max() * logits, axis=1), atol=1e-12
    )


@pytest.mark.parametrize("groups", [MIXED, [(2, 0, 1)], [(0,), (1,)]], ids=str)
def test_no_other_scales_and_biases_are_better(groups: Groups) -> None:
    outputs, labels = said(groups)
    calibration = fit("vector", outputs, groups, labels)
    logits = torch.from_numpy(class_logits(outputs, groups))
    contrasts = class_contrasts(groups)
    scales = torch.from_numpy((calibration.weight * contrasts).sum(1) / (contrasts**2).sum(1)).requires_grad_()
    biases = torch.from_numpy(calibration.bias).requires_grad_()
    shares = torch.log_softmax(scales * logits + biases, 1)
    doubt = 1 / (len(labels) + 1)
    told = shares[torch.arange(len(labels)), torch.from_numpy(labels)]
    total = -((1 - doubt) * told + doubt * shares.mean(1)).mean()
    total.backward()
    assert scales.grad.abs().max() < 1e-5
    assert biases.grad.abs().max() < 1e-5
    np.testing.assert_allclose(calibration(outputs, groups), shares.detach().exp(), atol=1e-9)
    assert total.item() < loss(class_logits(outputs, groups) * 0.5, labels)


@pytest.mark.parametrize("groups", [MIXED, [(2, 0, 1)], [(0,), (1,)]], ids=str)
def test_logistic_regression_is_that_of_scikit_learn(groups: Groups) -> None:
    outputs, labels = said(groups)
    features = StandardScaler().fit_transform(np.hstack(outputs).astype(np.float64))
    expected = LogisticRegression(C=100.0, max_iter=1000).fit(features, labels).predict_proba(features)
    np.testing.assert_allclose(fit("logistic", outputs, groups, labels)(outputs, groups), expected, atol=1e-9)


@pytest.mark.parametrize("method", EVERY)
def test_calibrations_are_read_as_they_were_written(method: str) -> None:
    outputs, labels = said(MIXED)
    calibration = Calibration(**{**vars(fit(method, outputs, MIXED, labels)), "threshold": 0.3})
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    assert (again.method, again.threshold) == (method, 0.3)
    np.testing.assert_array_equal(again(outputs, MIXED), calibration(outputs, MIXED))


@st.composite
def partitions(draw: st.DrawFn) -> Groups:
    """Generate classes in any order, split into groups anywhere."""
    classes = draw(st.permutations(range(draw(st.integers(2, 6)))))
    cuts = sorted(draw(st.sets(st.integers(1, len(classes) - 1))))
    return [tuple(classes[start:end]) for start, end in zip([0, *cuts], [*cuts, len(classes)], strict=True)]


@settings(max_examples=12, deadline=None, derandomize=True)
@given(groups=partitions(), seed=st.integers(0, 10**6), scale=st.sampled_from([1e-3, 1.0, 1e4]))
def test_probabilities_sum_to_one_and_a_temperature_moves_no_answer(groups: Groups, seed: int, scale: float) -> None:
    outputs, labels = said(groups, 60, seed)
    outputs = [(scale * each).astype(np.float32) for each in outputs]
    for method in EVERY:
        probabilities = fit(method, outputs, groups, labels)(outputs, groups)
        assert probabilities.shape == (60, sum(map(len, groups)))
        assert (probabilities >= 0).all()
        np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)
        if method == "temperature":
            largest = class_logits(outputs, groups).argmax(1)
            np.testing.assert_array_equal(probabilities.argmax(1), largest)


@pytest.mark.parametrize("method", EVERY)
def test_huge_outputs_and_members_that_are_always_right_do_no_harm(method: str) -> None:
    outputs, labels = said(MIXED, noise=0)
    calibration = fit(method, outputs, MIXED, labels)
    assert (calibration(outputs, MIXED).argmax(1) == labels).all()
    for scale in (1e30, -1e30):
        huge = calibration([(scale * each).astype(np.float32) for each in outputs], MIXED)
        np.testing.assert_allclose(huge.sum(1), 1, rtol=1e-12)
    if method in FITTED:
        # Probabilities are as confident as so many images allow, and not more.
        assert 0.9 < calibration(outputs, MIXED).max(1).mean() < 1 - 1e-4


@pytest.mark.parametrize("kept", [[1, 2, 3], [2]], ids=["one class missing", "all but one missing"])
@pytest.mark.parametrize("method", PER_CLASS)
def test_where_a_class_is_missing_only_a_temperature_is_fitted(method: str, kept: list[int]) -> None:
    outputs, labels = said(MIXED)
    rows = np.isin(labels, kept)
    some = [each[rows] for each in outputs]
    calibration = fit(method, some, MIXED, labels[rows])
    assert calibration.method == "temperature"
    expected = fit("temperature", some, MIXED, labels[rows])
    np.testing.assert_array_equal(calibration(outputs, MIXED), expected(outputs, MIXED))
    assert np.isfinite(calibration(outputs, MIXED)).all()


@pytest.mark.parametrize("method", FITTED)
def test_each_image_is_judged_by_what_was_fitted_without_it(method: str) -> None:
    outputs, labels = said(MIXED, 40)
    before = cross_fitted(method, outputs, MIXED, labels)
    np.testing.assert_allclose(before.sum(1), 1)
    for output in outputs:
        output[0] = -9 * output[0]
    after = cross_fitted(method, outputs, MIXED, labels)
    # The fit for the first image's own fold does not use it; the fits for all other folds do.
    same = (after == before).all(1)
    same[0] = True
    assert np.bincount(labels[same]).tolist() == [2, 2, 2, 2]


def test_raw_probabilities_are_the_same_in_every_fold() -> None:
    outputs, labels = said(MIXED, 40)
    # The number of images computed at once may change the last digit, depending on the processor.
    np.testing.assert_allclose(cross_fitted("raw", outputs, MIXED, labels), RAW(outputs, MIXED), rtol=1e-14)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_few_images_are_enough(count: int) -> None:
    outputs, labels = said([(0,), (1,)], count)
    for method in EVERY:
        assert np.isfinite(cross_fitted(method, outputs, [(0,), (1,)], labels)).all()


@pytest.mark.parametrize("share", [0.01, 0.25, 0.9])
def test_the_threshold_rejects_the_share_that_is_asked_for(share: float) -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), 500)
    threshold = rejection_threshold(probabilities, share)
    assert (probabilities.max(1) < threshold).mean() == pytest.approx(share, abs=1 / 500)


def test_many_classes_go_without_the_logistic_regression() -> None:
    assert methods_for([(label,) for label in range(300)], 100) == ["temperature", "vector", "logistic"]
    assert methods_for([(label,) for label in range(400)], 100) == ["temperature", "vector"]
    assert methods_for([tuple(range(1000))], 2000) == ["temperature", "vector"]
    # A fit to ImageNet's 50,000 validation images takes hours.
    assert methods_for([tuple(range(1000))] * 5, 50_000) == ["temperature"]
