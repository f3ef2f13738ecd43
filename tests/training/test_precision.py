"""bfloat16: its effects, and how it is chosen."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sensai.training.checkpoints import Checkpoints
from sensai.training.joint_trainer import JointTrainer
from sensai.training.member_trainer import MemberTrainer
from sensai.training.precision import Precision, autocast, chosen, faster_precision
from sensai.training.training_loop import fit
from sensai.training.workers import teacher_logits
from tests.training.test_training_loop import CONFIG, CPU, OBJECTIVE, network, training, validation


def trained(folder: Path, precision: Precision, epochs: int = CONFIG.epochs) -> JointTrainer:
    model = network()
    member = MemberTrainer(model, CONFIG, 4, Checkpoints(folder))
    trainer = JointTrainer(model, OBJECTIVE, [member], precision=precision)
    fit([trainer], training, validation)
    return trainer


def test_training_in_bfloat16_learns_and_keeps_float32_weights(tmp_path: Path) -> None:
    full, half = trained(tmp_path / "a", "fp32"), trained(tmp_path / "b", "bf16")
    assert half.history.epochs[-1]["accuracy"] >= 0.95
    assert {value.dtype for value in half.model.parameters()} == {torch.float32}
    assert half.history.epochs[0]["train_loss"] == pytest.approx(full.history.epochs[0]["train_loss"], rel=0.05)
    assert half.history.epochs[0]["train_loss"] != full.history.epochs[0]["train_loss"]


def test_the_teacher_answers_in_float32() -> None:
    model = network().eval()
    images, _ = next(iter(validation()))
    full, half = teacher_logits(model, "fp32", images), teacher_logits(model, "bf16", images)
    assert full.dtype == half.dtype == torch.float32
    assert torch.equal(full, model(images))
    assert not torch.equal(full, half)
    assert torch.allclose(full, half, atol=0.1)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_block_is_computed_in_the_precision(precision: Precision, dtype: torch.dtype) -> None:
    with autocast(precision, CPU):
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype


def test_measuring_leaves_the_network_as_it_was() -> None:
    model = network().eval()
    before: dict[str, Tensor] = {name: value.clone() for name, value in model.state_dict().items()}
    choice = faster_precision(model, torch.randn(8, 1, 8, 8))
    assert choice.gain == choice.fp32_ms / choice.bf16_ms > 0
    assert choice.rounds >= 5
    # The line that people read has the figures.
    assert str(choice).startswith(f"{choice.precision} (a training step takes {choice.fp32_ms:.3g} ms in fp32 and ")
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("gain", "right"), [(0.5, "fp32"), (0.98, "fp32"), (1.1, "fp32"), (1.4, "bf16"), (2.0, "bf16")]
)
def test_load_does_not_change_the_choice(gain: float, right: Precision) -> None:
    """Other programs take the processor from half of all steps, for up to three times as long as these take."""
    choices = []
    for seed in range(100):
        random = np.random.default_rng(seed)
        fp32, bf16 = (
            own * (1 + random.uniform(0, 0.02, 40) + random.choice([0, 1], 40) * random.uniform(0, 3, 40))
            for own in (1.0, 1 / gain)
        )
        rounds = next((n for n in range(5, 40) if chosen(fp32[:n], bf16[:n]).settled), 40)
        choices.append(chosen(fp32[:rounds], bf16[:rounds]).precision)
    assert choices == [right] * 100


def test_what_is_not_met_again_does_not_count() -> None:
    falling = [1 / (1 + step / 4) for step in range(20)]
    choice = chosen([10 * each for each in falling], falling)
    assert (choice.precision, choice.settled, choice.gain) == ("fp32", False, pytest.approx(10))
    assert chosen([10.0] * 5, [1.0] * 5).precision == "bf16"
    assert chosen([1.0] * 5, [10.0] * 5).precision == "fp32"
