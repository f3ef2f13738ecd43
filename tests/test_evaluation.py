"""Accuracies, confusion, sizes and latencies."""

import numpy as np
import pytest
import torch
from sklearn.metrics import top_k_accuracy_score
from torch import nn

from sensai.data.batches import Normalization
from sensai.ensemble import Ensemble
from sensai.ensemble.members import build_ensemble
from sensai.evaluation import (
    Size,
    accuracies,
    confusion,
    ensemble_probabilities,
    host,
    latency_ms,
    member_metrics,
    run_networks,
    size,
    softmax,
)
from sensai.retraining.objectives import outcome_metrics
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


def test_probabilities_from_outputs_are_those_of_the_ensemble(ensemble: Ensemble) -> None:
    images, labels = images_for(ensemble.spec, 7), torch.arange(7)
    outputs = run_networks(ensemble.networks, [(images, labels)])
    probabilities = ensemble_probabilities(outputs, ensemble)
    with torch.no_grad():
        np.testing.assert_allclose(probabilities, ensemble.eval()(images), atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)
    assert probabilities.dtype == np.float64


def test_members_are_judged_on_their_own_outcomes(ensemble: Ensemble) -> None:
    images, labels = images_for(ensemble.spec, 30), torch.arange(30) % 10
    outputs = run_networks(ensemble.networks, [(images, labels)])
    metrics = member_metrics(outputs, ensemble)
    for classes, logits, found in zip(GROUPS, outputs.members, metrics, strict=True):
        targets = np.array([classes.index(label) + 1 if label in classes else 0 for label in labels.tolist()])
        assert found == outcome_metrics(logits, targets)


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
    # Class 2 neither occurs nor is answered.
    assert matrix.tolist() == [[1, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


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


def test_latency_is_of_one_image_in_milliseconds() -> None:
    shapes = set()

    def forward(image: torch.Tensor) -> torch.Tensor:
        shapes.add((tuple(image.shape), torch.is_grad_enabled()))
        total = image
        for _ in range(200):
            total = total @ total
        return total

    slow = latency_ms(forward, (1, 64, 64), torch.device("cpu"))
    fast = latency_ms(lambda image: image, (1, 64, 64), torch.device("cpu"))
    assert shapes == {((1, 1, 64, 64), False)}
    assert 0 < fast < slow < 1000


def test_the_host_is_described_by_strings() -> None:
    found = host()
    assert {"processor", "cores", "threads", "torch"} <= found.keys()
    assert all(isinstance(value, str) and value for value in found.values())
    assert found["torch"] == torch.__version__
