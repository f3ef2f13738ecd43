"""Every loss against what all promise."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sensai.training.losses import LOSSES
from sensai.training.objectives import Objective
from sensai.training.training_config import ObjectiveConfig

LABELS = torch.tensor([0, 1, 2, 2, 1, 0, 0])


def objective(name: str, classes: tuple[int, ...]) -> Objective:
    """With a joint loss, of all classes."""
    joint = ObjectiveConfig(name).joint
    return Objective.balanced((0, 1, 2) if joint else classes, 3, LABELS.numpy(), ObjectiveConfig(name))


def teacher() -> Tensor:
    """A teacher that is right and sure."""
    return 20.0 * torch.eye(3)[LABELS]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("classes", [(1,), (2, 0), (0, 1, 2)])
def test_a_loss_is_one_number_whose_gradient_leads_to_the_labels(name: str, classes: tuple[int, ...]) -> None:
    own = objective(name, classes)
    outputs = 1 if len(own.classes) == 1 else len(own.weight)
    logits = torch.zeros(len(LABELS), outputs, requires_grad=True)
    losses = []
    for _ in range(30):
        loss = own.loss(logits, LABELS, teacher())
        assert loss.shape == ()
        assert torch.isfinite(loss)
        losses.append(float(loss))
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - 5.0 * gradient).detach().requires_grad_()
    assert losses[-1] < 0.5 * losses[0]
    chosen = (logits[:, 0] > 0).long() if outputs == 1 else logits.argmax(1)
    assert torch.equal(chosen, own.targets(LABELS))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_the_mean_over_the_images(name: str) -> None:
    own = objective(name, (2, 0))
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(len(LABELS), len(own.weight))))
    whole = own.loss(logits, LABELS, teacher())
    each = [own.loss(logits[n : n + 1], LABELS[n : n + 1], teacher()[n : n + 1]) for n in range(len(LABELS))]
    assert float(whole) == pytest.approx(float(torch.stack(each).mean()))


def test_losses_declare_who_takes_part() -> None:
    assert {name: (ObjectiveConfig(name).joint, ObjectiveConfig(name).uses_teacher) for name in LOSSES} == {
        "bce": (False, False),
        "kd": (False, True),
        "joint": (True, False),
        "joint_kd": (True, True),
    }
    # A teacher without weight is not asked.
    assert not any(ObjectiveConfig(name, kd_weight=0).uses_teacher for name in LOSSES)
