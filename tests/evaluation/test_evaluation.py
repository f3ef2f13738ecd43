"""Accuracies, confusion, sizes and latencies."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, top_k_accuracy_score
from torch import nn

from sensai.data.batches import Normalization
from sensai.ensemble import Ensemble, Member
from sensai.ensemble.building import build_ensemble
from sensai.ensemble.calibration import RAW
from sensai.evaluation import (
    Outputs,
    Size,
    accuracies,
    confusion,
    confusion_between_groups,
    confusion_in_groups,
    error_shares,
    group_metrics,
    host,
    member_metrics,
    natural_thresholds,
    probability_metrics,
    rejection_metrics,
    reliability_curve,
    right_in_group,
    run_networks,
    size,
    softmax,
)
from sensai.grouping.partitions import number_of_classes
from sensai.models.factory import NetworkSpec
from sensai.sites import find_sites
from tests.helpers.networks import images_for, make, three_layers

GROUPS = [(3,), (8, 0, 5), (1, 2), (4, 6, 7, 9)]


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    model, spec = make("small_cnn")
    sites = find_sites(model, images_for(spec, 2))
    pairs = [(group, {"features.0": np.arange(number)}) for number, group in enumerate(GROUPS)]
    return build_ensemble(model, spec, sites, pairs, tuple("abcdefghij"), Normalization((0.0,), (1.0,)))


def test_networks_run_on_the_same_uneven_batches(ensemble: Ensemble) -> None:
    images, labels = images_for(ensemble.spec, 11), torch.arange(11) % 10
    networks = [member.network.train() for member in ensemble.members]
    outputs = run_networks(networks, zip(images.split(4), labels.split(4), strict=True))
    assert outputs.labels.tolist() == labels.tolist()
    for network, got in zip(networks, outputs.members, strict=True):
        assert not network.training
        with torch.no_grad():
            np.testing.assert_allclose(got, network(images), atol=1e-5)
        assert got.dtype == np.float32


def test_an_iterator_of_batches_is_read_once_for_all_networks(ensemble: Ensemble) -> None:
    images, labels = images_for(ensemble.spec, 6), torch.arange(6)
    stream = iter([(images[:4], labels[:4]), (images[4:], labels[4:])])
    outputs = run_networks(iter(ensemble.networks), stream)
    assert [len(member) for member in outputs.members] == [6] * 4


def test_raw_probabilities_from_outputs_are_those_of_the_ensemble(ensemble: Ensemble) -> None:
    images, labels = images_for(ensemble.spec, 7), torch.arange(7)
    outputs = run_networks(ensemble.networks, [(images, labels)])
    probabilities = RAW(outputs.members, ensemble.groups)
    with torch.no_grad():
        np.testing.assert_allclose(probabilities, ensemble.eval()(images), atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)
    assert probabilities.dtype == np.float64


def test_a_member_of_all_classes_is_judged_by_its_answers() -> None:
    generator = np.random.default_rng(0)
    labels, classes = generator.integers(0, 3, 40), (2, 0, 1)
    _, ensemble = outputs_of([classes], 0)
    logits = generator.normal(size=(40, 3)).astype(np.float32)
    (metrics,) = member_metrics(Outputs(labels, [logits]), ensemble, natural_thresholds(ensemble))
    answers = np.array(classes)[logits.argmax(1)]
    right = answers == labels
    assert metrics["binary_accuracy"] == metrics["in_group_accuracy"] == pytest.approx(right.mean())
    assert metrics["balanced_accuracy"] == pytest.approx(np.mean([right[labels == label].mean() for label in range(3)]))
    shares = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum(1, keepdims=True)
    for name, score in (("roc_auc", roc_auc_score), ("average_precision", average_precision_score)):
        each = [score(labels == label, shares[:, column]) for column, label in enumerate(classes)]
        assert metrics[name] == pytest.approx(np.mean(each))
    assert "none_accuracy" not in metrics


def test_softmax_is_computed_in_double() -> None:
    logits = np.array([[1e3, 0, -1e3], [0.1, 0.2, 0.3]], np.float32)
    shares = softmax(logits)
    exponentials = np.exp(logits[1].astype(np.float64))
    np.testing.assert_allclose(shares[1], exponentials / exponentials.sum(), rtol=1e-12)
    assert shares[0].tolist() == [1.0, 0.0, 0.0]


# ---------------------------------------------------------------------------------------------------------- accuracies


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_with_five_classes_or_fewer_all_are_among_the_top_five(num_classes: int) -> None:
    probabilities = np.eye(num_classes)[::-1]
    assert accuracies(probabilities, np.arange(num_classes)) == {
        "accuracy": pytest.approx((num_classes % 2) / num_classes),
        "top5_accuracy": 1.0,
    }


@pytest.mark.parametrize("num_classes", [6, 10, 100])
def test_accuracies_equal_a_count(num_classes: int) -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(num_classes), 50)
    # Not every class occurs.
    labels = generator.integers(0, num_classes - 1, 50)
    ranks = [(row > row[label]).sum() for row, label in zip(probabilities, labels, strict=True)]
    found = accuracies(probabilities, labels)
    assert found["accuracy"] == pytest.approx(np.mean([rank == 0 for rank in ranks]))
    assert found["top5_accuracy"] == pytest.approx(np.mean([rank < 5 for rank in ranks]))
    assert found["top5_accuracy"] == top_k_accuracy_score(labels, probabilities, k=5, labels=np.arange(num_classes))
    assert 0 < found["top5_accuracy"] < 1


def test_confusion_counts_rows_of_truth_and_columns_of_answers() -> None:
    answers = np.array([1, 1, 0, 3, 1])
    labels = np.array([0, 0, 0, 3, 1])
    matrix = confusion(np.eye(4)[answers], labels)
    # Class 2 neither occurs nor is predicted.
    assert matrix.tolist() == [[1, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


# ------------------------------------------------------------------------------------------------------- probabilities


def binned_by_hand(probabilities: np.ndarray, labels: np.ndarray) -> list[tuple[int, float, float]]:
    """Return for each non-empty one of 15 bins of the largest probability: number of images, its mean, and right answers."""
    largest, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.minimum((largest * 15).astype(int), 14)
    members = [bins == number for number in range(15)]
    return [(own.sum(), largest[own].mean(), right[own].mean()) for own in members if own.any()]


@pytest.mark.parametrize("sureness", [0.1, 1.0])
def test_calibration_errors_and_curves_equal_a_count(sureness: float) -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.full(4, sureness), 300)
    # Not every class occurs.
    labels = generator.integers(0, 3, 300)
    bins = binned_by_hand(probabilities, labels)
    found = probability_metrics(probabilities, labels)
    expected = sum(count * abs(confidence - accuracy) for count, confidence, accuracy in bins) / 300
    assert found["ece"] == pytest.approx(expected)
    assert found["nll"] == pytest.approx(
        -np.log(probabilities[np.arange(300), labels].clip(np.finfo(np.float64).eps)).mean()
    )
    assert found["accuracy"] == accuracies(probabilities, labels)["accuracy"]
    confidence, accuracy, images = reliability_curve(probabilities, labels)
    assert (images.sum(), len(images)) == (len(labels), len(accuracy))
    np.testing.assert_allclose(confidence, [each[1] for each in bins])
    np.testing.assert_allclose(accuracy, [each[2] for each in bins])


def test_probabilities_of_one_are_no_logits() -> None:
    probabilities = np.array([[1 + 1e-15, 0], [0, 1 + 1e-15], [0.5, 0.5]])
    assert probability_metrics(probabilities, np.array([0, 1, 0]))["ece"] == pytest.approx(1 / 6)
    assert [each.tolist() for each in reliability_curve(probabilities, np.array([0, 1, 0]))] == [
        [0.5, 1],
        [1, 1],
        [1, 2],
    ]


def test_what_is_below_the_threshold_is_not_answered() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.2, 0.8]])
    labels = np.array([1, 1, 0, 1])
    found = rejection_metrics(probabilities, labels, 0.6)
    assert found == {"rejected": 0.25, "accuracy_answered": pytest.approx(2 / 3)}
    assert rejection_metrics(probabilities, labels, 0.95) == {"rejected": 1.0}


# -------------------------------------------------------------------------------------------------------------- groups

Groups = list[tuple[int, ...]]
SPEC = NetworkSpec("small_cnn", 10, 1, (8, 8), {}, "")


@st.composite
def partitions(draw: st.DrawFn) -> Groups:
    """Generate classes in any order, split into groups anywhere."""
    classes = draw(st.permutations(range(draw(st.integers(2, 7)))))
    cuts = sorted(draw(st.sets(st.integers(1, len(classes) - 1))))
    return [tuple(classes[start:end]) for start, end in zip([0, *cuts], [*cuts, len(classes)], strict=True)]


# Classes of several members, replicas, and a member of all classes beside one of two.
SHARED: list[Groups] = [[(0, 1), (1, 2), (2, 0), (3,)], [(0, 1, 2), (2, 1, 0)], [(0, 1, 2, 3), (1, 3)]]


def outputs_of(groups: Groups, seed: int, images: int = 12) -> tuple[Outputs, Ensemble]:
    """Return random outputs of members of these groups, some of them equal."""
    generator, num_classes = np.random.default_rng(seed), number_of_classes(groups)
    widths = [1 if len(group) == 1 else len(group) + (len(group) < num_classes) for group in groups]
    logits = [generator.integers(-2, 3, (images, width)).astype(np.float32) for width in widths]
    names = tuple(f"class {label}" for label in range(num_classes))
    members = [Member(group, nn.Identity()) for group in groups]
    # The last class never occurs.
    labels = generator.integers(0, num_classes - 1, images)
    return Outputs(labels, logits), Ensemble(members, names, SPEC, Normalization((0.0,), (1.0,)))


def preferred(group: tuple[int, ...], output: np.ndarray) -> int:
    """Return the class of a member with its largest output."""
    own = output[-len(group) :].tolist()
    return group[own.index(max(own))]


def says_none(group: tuple[int, ...], output: np.ndarray) -> bool:
    """Return True if "none" is at least as likely as all classes of the member together."""
    exact = np.exp(output.astype(np.float64))
    if len(output) == 1:
        return exact[0] <= 1
    return len(output) > len(group) and exact[0] >= exact[1:].sum()


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@settings(max_examples=30, deadline=None)
@given(groups=partitions() | st.sampled_from(SHARED), seed=st.integers(0, 2**31))
def test_group_metrics_equal_a_count(groups: Groups, seed: int) -> None:
    outputs, ensemble = outputs_of(groups, seed)
    right, none, of_members = [], [], []
    for group, logits in zip(groups, outputs.members, strict=True):
        own, others = [], []
        for label, output in zip(outputs.labels, logits, strict=True):
            if label in group:
                own.append(preferred(group, output) == label)
            else:
                others.append(says_none(group, output))
        right += own
        none += others
        of_members.append({"in_group_accuracy": own, "none_accuracy": others})

    def expected(parts: dict[str, list[bool]]) -> dict[str, float]:
        return {name: pytest.approx(np.mean(values)) for name, values in parts.items() if values}

    natural = natural_thresholds(ensemble)
    assert group_metrics(outputs, ensemble, natural) == expected({"in_group_accuracy": right, "none_accuracy": none})
    for found, counted in zip(member_metrics(outputs, ensemble, natural), of_members, strict=True):
        assert {name: found[name] for name in counted if name in found} == expected(counted)


def test_a_group_is_judged_by_its_own_classes_whatever_it_says_of_none() -> None:
    _, ensemble = outputs_of([(2, 0), (1,)], 0)
    # Both images are called "none" by the group; it prefers class 2 for the first and class 0 for the second.
    logits = [np.array([[9, 2, 1], [9, 1, 2]], np.float32), np.array([[-1], [3]], np.float32)]
    assert group_metrics(Outputs(np.array([2, 2]), logits), ensemble, natural_thresholds(ensemble)) == {
        "in_group_accuracy": 0.5,
        "none_accuracy": 0.5,
    }


def test_binary_members_are_right_and_the_control_never_says_none() -> None:
    outputs, ensemble = outputs_of([(0,), (1,), (2,)], 0)
    assert group_metrics(outputs, ensemble, natural_thresholds(ensemble))["in_group_accuracy"] == 1.0
    outputs, ensemble = outputs_of([(0, 1, 2)], 0)
    accuracy = (outputs.members[0].argmax(1) == outputs.labels).mean()
    found = group_metrics(outputs, ensemble, natural_thresholds(ensemble))
    assert found == {"in_group_accuracy": pytest.approx(accuracy)}


def test_an_image_is_right_by_the_share_of_its_members() -> None:
    _, ensemble = outputs_of([(0, 1), (1, 2), (2, 0)], 0)
    # Class 1 is told from 0 by the first member, but not from 2 by the second.
    logits = [np.array([[0, 1, 2]], np.float32), np.array([[0, 1, 2]], np.float32), np.array([[9, 1, 2]], np.float32)]
    assert right_in_group(Outputs(np.array([1]), logits), ensemble).tolist() == [0.5]
    assert right_in_group(Outputs(np.array([0]), logits), ensemble).tolist() == [0.5]
    assert right_in_group(Outputs(np.array([2]), logits), ensemble).tolist() == [0.5]


@settings(max_examples=30, deadline=None)
@given(groups=partitions(), seed=st.integers(0, 2**31))
def test_confusion_of_groups_equals_a_count(groups: Groups, seed: int) -> None:
    generator, num_classes = np.random.default_rng(seed), sum(map(len, groups))
    labels, answers = generator.integers(0, num_classes, (2, 15))
    matrix = confusion(np.eye(num_classes)[answers], labels)
    between = np.zeros((len(groups), len(groups)), np.int64)
    inside = [np.zeros((len(group), len(group)), np.int64) for group in groups]
    owner = {label: number for number, group in enumerate(groups) for label in group}
    for label, answer in zip(labels.tolist(), answers.tolist(), strict=True):
        row, column = owner[label], owner[answer]
        between[row, column] += 1
        if row == column:
            inside[row][groups[row].index(label), groups[row].index(answer)] += 1
    np.testing.assert_array_equal(confusion_between_groups(matrix, groups), between)
    for found, counted in zip(confusion_in_groups(matrix, groups), inside, strict=True):
        np.testing.assert_array_equal(found, counted)
    assert between.dtype == confusion_between_groups(matrix, groups).dtype

    crossed = [owner[label] != owner[answer] for label, answer in zip(labels, answers, strict=True) if label != answer]
    shares = error_shares(matrix, groups)
    if crossed:
        assert sum(shares.values()) == pytest.approx(1)
        assert shares["errors_between_groups"] == pytest.approx(np.mean(crossed))
    else:
        assert shares == {}


def test_without_an_error_there_are_no_shares_of_errors() -> None:
    assert error_shares(np.diag([3, 0, 2]), [(0, 2), (1,)]) == {}


# ------------------------------------------------------------------------------------------------------ size and time


def test_the_size_of_three_layers_equals_a_count_by_hand() -> None:
    # conv1: 6x6 pixels x 2 channels x 9 weights; conv2: 3x3 x 3 x 18; linear: 27 x 4. FLOPs are twice that.
    macs = 36 * 2 * 9 + 9 * 3 * 18 + 27 * 4
    params = 2 * 9 + 2 * 2 + (3 * 18 + 3) + (27 * 4 + 4)
    assert size(three_layers(), (1, 6, 6)) == Size(params=params, flops=2 * macs, bytes=4 * params)


def test_the_size_hangs_on_the_input_and_leaves_the_network_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU()).eval()
    assert size(network, (3, 5, 7)) == Size(params=108, flops=2 * 35 * 108, bytes=432)
    assert size(network, (3, 10, 7)).flops == 2 * 70 * 108
    assert all(parameter.grad is None for parameter in network.parameters())


def test_bytes_follow_the_precision_of_each_parameter() -> None:
    network = three_layers()
    network.more = nn.Parameter(torch.zeros(5, dtype=torch.float16))
    assert size(network, (1, 6, 6)).bytes == 4 * 191 + 2 * 5
    assert size(network, (1, 6, 6)).params == 196


def test_the_host_is_described_by_strings() -> None:
    found = host()
    assert {"processor", "cores", "threads", "torch"} <= found.keys()
    assert all(isinstance(value, str) and value for value in found.values())
    assert found["torch"] == torch.__version__
