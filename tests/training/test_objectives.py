"""Objectives and metrics of members equal computations by hand and by scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from sensai.training.objectives import Objective, judge, on_device, outcome_metrics
from sensai.training.training_config import ObjectiveConfig
from tests.helpers.networks import images_for, make

LABELS = np.array([0] * 20 + [1] * 5 + [2] * 10 + [3] * 1 + [4] * 4)
MEMBERS = [(3,), (0,), (1, 3), (4, 0, 2), (0, 1, 2, 3, 4)]


def outcomes(classes: tuple[int, ...], labels: np.ndarray) -> np.ndarray:
    first = 0 if len(classes) == 5 else 1
    return np.array([first + classes.index(label) if label in classes else 0 for label in labels.tolist()])


@pytest.mark.parametrize("classes", MEMBERS)
def test_every_outcome_weighs_the_same_in_all(classes: tuple[int, ...]) -> None:
    objective = Objective.balanced(classes, 5, LABELS)
    targets = outcomes(classes, LABELS)
    count = len(classes) + (len(classes) < 5)
    assert len(objective.weight) == count
    each = np.array(objective.weight)[targets]
    totals = [each[targets == outcome].sum() for outcome in range(count)]
    assert totals == pytest.approx([len(LABELS) / count] * count)
    assert each.mean() == pytest.approx(1.0)
    expected = compute_class_weight("balanced", classes=np.arange(count), y=targets)
    np.testing.assert_allclose(objective.weight, expected, rtol=1e-6)


def test_an_outcome_that_never_occurs_weighs_nothing() -> None:
    labels = LABELS[LABELS != 3]
    objective = Objective.balanced((1, 3), 5, labels)
    assert objective.weight[2] == 0
    each = np.array(objective.weight)[outcomes((1, 3), labels)]
    assert each.mean() == pytest.approx(1.0)
    assert Objective.balanced((3,), 5, labels).weight == (1.0, 0.0)


def test_equal_values_of_two_types_are_two_tensors() -> None:
    """(1, 0) are two classes, (1.0, 0.0) the weights of a member whose class never occurs."""
    cpu = torch.device("cpu")
    assert on_device((1, 0), cpu, torch.int64).dtype == torch.int64
    assert on_device((1.0, 0.0), cpu).dtype == torch.float32


def test_the_base_model_learns_all_classes_as_they_come() -> None:
    objective = Objective.multiclass(5)
    logits, labels = torch.randn(40, 5), torch.from_numpy(LABELS)
    assert torch.equal(objective.targets(labels), labels)
    assert torch.allclose(objective.loss(logits, labels), F.cross_entropy(logits, labels))


@pytest.mark.parametrize("classes", MEMBERS)
def test_the_loss_equals_a_computation_by_hand(classes: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    objective = Objective.balanced(classes, 5, LABELS)
    targets = outcomes(classes, LABELS)
    width = 1 if len(classes) == 1 else len(objective.weight)
    logits = generator.normal(0, 2, (len(LABELS), width))
    if width == 1:
        probabilities = 1 / (1 + np.exp(-logits[:, 0]))
        probabilities = np.stack([1 - probabilities, probabilities], 1)
    else:
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    got = float(objective.loss(torch.from_numpy(logits), torch.from_numpy(LABELS)))
    each = -np.log(probabilities[np.arange(len(targets)), targets])
    assert got == pytest.approx((each * np.array(objective.weight)[targets]).mean(), rel=1e-6)
    weights = np.array(objective.weight)[targets]
    assert got == pytest.approx(log_loss(targets, probabilities, sample_weight=weights), rel=1e-6)
    # Balanced: the mean of the outcomes' own losses.
    assert got == pytest.approx(np.mean([each[targets == outcome].mean() for outcome in np.unique(targets)]), rel=1e-5)


def test_the_loss_has_a_gradient() -> None:
    logits = torch.zeros(40, 1, requires_grad=True)
    Objective.balanced((3,), 5, LABELS).loss(logits, torch.from_numpy(LABELS)).backward()
    assert logits.grad is not None
    # The one image of the class pulls up as strongly as all others together pull down.
    assert logits.grad[35] < 0
    assert float(logits.grad.sum()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("classes", MEMBERS)
def test_a_teacher_takes_the_place_of_part_of_the_label(classes: tuple[int, ...], share: float) -> None:
    generator = np.random.default_rng(1)
    objective = Objective.balanced(classes, 5, LABELS, ObjectiveConfig("kd", share))
    weight, targets = np.array(objective.weight), outcomes(classes, LABELS)
    logits = generator.normal(0, 2, (len(LABELS), 1 if len(classes) == 1 else len(weight)))
    teacher = generator.normal(0, 2, (len(LABELS), 5))
    taught = np.exp(teacher) / np.exp(teacher).sum(1, keepdims=True)
    wanted = taught[:, list(classes)]
    if len(classes) < 5:
        wanted = np.concatenate([1 - wanted.sum(1, keepdims=True), wanted], 1)
    wanted = share * wanted + (1 - share) * np.eye(len(weight))[targets]
    scores = np.concatenate([np.zeros_like(logits), logits], 1) if len(classes) == 1 else logits
    log_probabilities = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    expected = -(wanted * weight * log_probabilities).sum(1).mean()
    got = objective.loss(torch.from_numpy(logits), torch.from_numpy(LABELS), torch.from_numpy(teacher))
    assert float(got) == pytest.approx(expected, rel=1e-6)
    # Networks are judged by the labels alone.
    told = Objective.balanced(classes, 5, LABELS).loss(torch.from_numpy(logits), torch.from_numpy(LABELS))
    assert float(objective.label_loss(torch.from_numpy(logits), torch.from_numpy(LABELS))) == float(told)


def test_a_teacher_that_is_missing_is_said() -> None:
    objective = Objective.balanced((1,), 5, LABELS, ObjectiveConfig("kd"))
    with pytest.raises(ValueError, match="loss=kd: needs the teacher's logits"):
        objective.loss(torch.zeros(40, 1), torch.from_numpy(LABELS))


def test_a_teacher_without_weight_is_not_asked() -> None:
    logits, labels = torch.randn(40, 1), torch.from_numpy(LABELS)
    untaught, taught = (
        Objective.balanced((1,), 5, LABELS, ObjectiveConfig(loss, kd_weight=0.0)) for loss in ("bce", "kd")
    )
    assert torch.equal(taught.loss(logits, labels), untaught.loss(logits, labels))
    assert torch.equal(taught.loss(logits, labels), taught.loss(logits, labels, torch.randn(40, 5)))


# ------------------------------------------------------------------------------------------------------- softened logits


def logits_of(classes: tuple[int, ...], seed: int) -> Tensor:
    """Return logits float64 of a member's outputs for all images."""
    outputs = 1 if len(classes) == 1 else len(classes) + (len(classes) < 5)
    return torch.randn(len(LABELS), outputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def both_outcomes(logits: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def teacher_of_outcomes(teacher: Tensor, classes: tuple[int, ...]) -> Tensor:
    """Return the teacher's logits of a member's outcomes: those of its classes, and the log of all others' exponentials."""
    own = [teacher[:, label] for label in classes]
    others = [teacher[:, label].exp() for label in range(5) if label not in classes]
    return torch.stack(([sum(others).log()] if others else []) + own, 1)


@pytest.mark.parametrize("temperature", [0.5, 4.0])
@pytest.mark.parametrize("classes", MEMBERS)
def test_at_a_temperature_the_gradient_is_that_of_the_divergence(classes: tuple[int, ...], temperature: float) -> None:
    """Hinton et al. 2015: (1 - w) CE(labels, z) + w T^2 KL(teacher at T, z / T)."""
    share = 0.3
    objective = Objective.unweighted(classes, 5, ObjectiveConfig("kd", share, kd_temperature=temperature))
    teacher = 2 * torch.randn(len(LABELS), 5, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    logits = logits_of(classes, 1).requires_grad_()
    labels = torch.from_numpy(LABELS)
    (found,) = torch.autograd.grad(objective.loss(logits, labels, teacher), logits)
    own = both_outcomes(logits)
    divergence = F.kl_div(
        F.log_softmax(own / temperature, 1),
        F.log_softmax(teacher_of_outcomes(teacher, classes) / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    expected = (1 - share) * F.cross_entropy(own, objective.targets(labels)) + share * temperature**2 * divergence
    torch.testing.assert_close(found, *torch.autograd.grad(expected, logits), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("classes", MEMBERS)
def test_a_member_that_matches_the_teacher_at_a_temperature_matches_it_at_one(classes: tuple[int, ...]) -> None:
    teacher = torch.randn(len(LABELS), 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    labels = torch.from_numpy(LABELS)
    matching = teacher_of_outcomes(teacher, classes)
    logits = matching[:, 1:] - matching[:, :1] if len(classes) == 1 else matching
    for temperature in (1.0, 3.0):
        objective = Objective.balanced(classes, 5, LABELS, ObjectiveConfig("kd", 1.0, kd_temperature=temperature))
        unweighted = replace(objective, weight=(1.0,) * len(objective.weight))
        wanted = logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(unweighted.loss(wanted, labels, teacher), wanted)
        assert float(gradient.abs().max()) < 1e-6


@pytest.mark.parametrize("classes", [each for each in MEMBERS if len(each) > 1])
def test_standardised_logits_have_mean_zero_and_deviation_one(classes: tuple[int, ...]) -> None:
    """Sun et al., CVPR 2024, computed by numpy."""
    config = ObjectiveConfig("kd", 1.0, kd_temperature=2.0, logit_standardization=True)
    objective = Objective.balanced(classes, 5, LABELS, config)
    teacher = torch.randn(len(LABELS), 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    logits = logits_of(classes, 4)

    def log_probabilities(values: np.ndarray) -> np.ndarray:
        scores = (values - values.mean(1, keepdims=True)) / values.std(1, ddof=1, keepdims=True) / 2
        return scores - np.log(np.exp(scores).sum(1, keepdims=True))

    taught = np.exp(log_probabilities(teacher_of_outcomes(teacher, classes).numpy()))
    expected = -4 * (taught * log_probabilities(logits.numpy()) * np.array(objective.weight)).sum(1).mean()
    labels = torch.from_numpy(LABELS)
    assert float(objective.loss(logits, labels, teacher)) == pytest.approx(expected, rel=1e-5)
    # The size of either's logits makes no difference.
    assert float(objective.loss(3 * logits, labels, 7 * teacher_of_all(teacher, classes))) == pytest.approx(
        float(objective.loss(logits, labels, teacher_of_all(teacher, classes))), rel=1e-5
    )


def teacher_of_all(teacher: Tensor, classes: tuple[int, ...]) -> Tensor:
    """Return a teacher whose only class outside a group is one: then a factor of its logits is one of the outcomes'."""
    outside = [label for label in range(5) if label not in classes]
    return teacher.index_fill(1, torch.tensor(outside[1:], dtype=torch.int64), -torch.inf)


# ------------------------------------------------------------------------------------------------------- shares of labels


@pytest.mark.parametrize("classes", MEMBERS)
def test_smoothed_labels_are_those_of_the_classes(classes: tuple[int, ...]) -> None:
    objective = Objective.unweighted(classes, 5, ObjectiveConfig(label_smoothing=0.2))
    logits, labels = logits_of(classes, 5), torch.from_numpy(LABELS)
    # 0.2 / 5 for each class, and the rest for the label.
    of_classes = np.full((len(LABELS), 5), 0.04)
    of_classes[np.arange(len(LABELS)), LABELS] += 0.8
    shares = of_classes[:, list(classes)]
    if len(classes) < 5:
        shares = np.concatenate([1 - shares.sum(1, keepdims=True), shares], 1)
    expected = -(F.log_softmax(both_outcomes(logits), 1).numpy() * shares).sum(1).mean()
    assert float(objective.loss(logits, labels)) == pytest.approx(expected, rel=1e-6)
    # The validation loss does not depend on it.
    plain = Objective.unweighted(classes, 5)
    assert float(objective.label_loss(logits, labels)) == float(plain.label_loss(logits, labels))


def test_smoothing_of_all_classes_is_that_of_torch() -> None:
    objective = Objective.unweighted((0, 1, 2, 3, 4), 5, ObjectiveConfig("joint", label_smoothing=0.1))
    logits, labels = logits_of((0, 1, 2, 3, 4), 6), torch.from_numpy(LABELS)
    assert float(objective.loss(logits, labels)) == pytest.approx(
        float(F.cross_entropy(logits, labels, label_smoothing=0.1)), rel=1e-6
    )


@pytest.mark.parametrize("loss", ["bce", "kd"])
@pytest.mark.parametrize("classes", MEMBERS)
def test_mixed_labels_cost_what_their_parts_cost(classes: tuple[int, ...], loss: str) -> None:
    objective = Objective.balanced(classes, 5, LABELS, ObjectiveConfig(loss, 0.3, label_smoothing=0.1))
    logits, labels = logits_of(classes, 7), torch.from_numpy(LABELS)
    teacher = torch.randn(len(LABELS), 5, generator=torch.Generator().manual_seed(3))
    others = labels.roll(1)
    mixed = 0.7 * F.one_hot(labels, 5).float() + 0.3 * F.one_hot(others, 5).float()
    found = objective.loss(logits, mixed, teacher)
    parts = 0.7 * objective.loss(logits, labels, teacher) + 0.3 * objective.loss(logits, others, teacher)
    torch.testing.assert_close(found, parts, atol=1e-6, rtol=1e-5)


# ------------------------------------------------------------------------------------------------------------- metrics


def area_by_pairs(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the ROC AUC: how often a positive image scores above a negative one; a tie counts half."""
    above = scores[positive][:, None] - scores[~positive][None, :]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(count=st.integers(1, 30), seed=st.integers(0, 10**6))
def test_a_binary_member_is_judged_by_its_sign(count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    targets = np.concatenate([[0, 1], generator.integers(0, 2, count)])
    logits = generator.integers(-3, 4, (len(targets), 1)).astype(np.float32)
    metrics = outcome_metrics(logits, targets)
    chosen = logits[:, 0] > 0
    recalls = [(chosen == outcome)[targets == outcome].mean() for outcome in (0, 1)]
    assert metrics == {
        "accuracy": pytest.approx((chosen == targets).mean()),
        "balanced_accuracy": pytest.approx(np.mean(recalls)),
        "roc_auc": pytest.approx(area_by_pairs(logits[:, 0], targets == 1)),
    }


@settings(max_examples=40, deadline=None, derandomize=True)
@given(width=st.integers(3, 5), count=st.integers(1, 30), seed=st.integers(0, 10**6))
def test_a_group_is_judged_one_against_the_rest(width: int, count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(width), generator.integers(0, width, count)])
    logits = generator.normal(0, 2, (len(targets), width)).astype(np.float32)
    metrics = outcome_metrics(logits, targets)
    chosen = logits.argmax(1)
    assert metrics["accuracy"] == pytest.approx((chosen == targets).mean())
    assert metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(targets, chosen))
    exact = logits.astype(np.float64)
    shares = np.exp(exact) / np.exp(exact).sum(1, keepdims=True)
    areas = [area_by_pairs(shares[:, outcome], targets == outcome) for outcome in range(width)]
    # In float32 two shares may round to one.
    assert metrics["roc_auc"] == pytest.approx(np.mean(areas), abs=1e-3)


def test_two_classes_in_one_group_are_judged_too() -> None:
    """The control, and the base model, of a data set of two classes: two outputs."""
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0], [0.0, 0.2], [1.0, 3.0]], np.float32)
    targets = np.array([0, 1, 1, 0, 1])
    assert outcome_metrics(logits, targets) == {
        "accuracy": pytest.approx(0.6),
        "balanced_accuracy": pytest.approx((1 / 2 + 2 / 3) / 2),
        "roc_auc": pytest.approx(area_by_pairs(logits[:, 1] - logits[:, 0], targets == 1)),
    }


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize(("width", "targets"), [(1, [0, 0, 0]), (1, [1, 1, 1]), (3, [0, 1, 1]), (3, [2, 2, 2])])
def test_where_an_outcome_does_not_occur_there_is_no_auc(width: int, targets: list[int]) -> None:
    metrics = outcome_metrics(np.random.default_rng(0).normal(size=(3, width)), np.array(targets))
    assert metrics.keys() == {"accuracy", "balanced_accuracy"}


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([[0.0, 1e4, -1e4], [1e4, 0.0, 0.0], [0.0, 0.0, 1e4]], np.float32)
    assert outcome_metrics(logits, np.array([1, 0, 2])) == {"accuracy": 1.0, "balanced_accuracy": 1.0, "roc_auc": 1.0}


# --------------------------------------------------------------------------------------------------------------- judge


class _Fixed(nn.Module):
    """Answers each image with its own first pixels."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, : self.outputs]


@pytest.mark.parametrize("classes", [*MEMBERS])
def test_uneven_batches_are_judged_as_the_whole(classes: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(40, 1, 3, 3, generator=generator)
    labels = torch.from_numpy(LABELS)[torch.randperm(40, generator=generator)]
    objective = Objective.balanced(classes, 5, LABELS)
    network = _Fixed(1 if len(classes) == 1 else len(objective.weight))
    other = _Fixed(5), Objective.multiclass(5)
    whole, _ = judge([(network, objective), other], [(images, labels)])
    _, parts = judge([other, (network, objective)], zip(images.split(17), labels.split(17), strict=True))
    assert parts == pytest.approx(whole)
    assert whole["loss"] == pytest.approx(float(objective.loss(network(images), labels)))
    expected = outcome_metrics(network(images).numpy(), outcomes(classes, labels.numpy()))
    assert {name: whole[name] for name in expected} == expected
    assert whole.keys() == {"loss", *expected}


def test_a_network_is_judged_in_eval_mode_without_a_trace() -> None:
    network, spec = make("small_cnn")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images, labels = images_for(spec, 12), torch.arange(12) % 10
    judge([(network.train(), Objective.multiclass(10))], [(images, labels)])
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
