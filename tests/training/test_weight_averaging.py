"""Averaged weights equal a loop by hand; they are judged, kept and resumed."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sensai.data.batches import steps_per_epoch
from sensai.training.checkpoints import Checkpoints, TrainingHistory
from sensai.training.joint_trainer import JointTrainer
from sensai.training.member_trainer import MemberTrainer
from sensai.training.objectives import judge
from sensai.training.training_loop import fit
from sensai.training.weight_averaging import exponential_average
from tests.training.test_training_loop import (
    BATCH,
    CONFIG,
    OBJECTIVE,
    TRAIN,
    assert_same_training,
    network,
    training,
    validation,
)

DECAY = 0.7
AVERAGED = replace(CONFIG, epochs=3, weight_averaging="ema", ema_decay=DECAY)


class _Counting(nn.Module):
    """A network with weights, running statistics and indices."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(2)
        self.head = nn.Linear(2, 3)
        self.register_buffer("indices", torch.arange(200))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.norm(images).mean((2, 3)))


def test_an_average_equals_a_loop() -> None:
    model = _Counting()
    average = exponential_average(model, DECAY)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected: dict[str, Tensor] = {}
    for step in range(6):
        model(torch.randn(4, 2, 3, 3)).square().sum().backward()
        optimizer.step()
        average.update_parameters(model)
        for name, value in model.state_dict().items():
            first_or_whole = step == 0 or not value.is_floating_point()
            expected[name] = value.clone() if first_or_whole else DECAY * expected[name] + (1 - DECAY) * value
    found = average.module.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    # Decay 0.7 times a whole number plus 0.3 times it is rounded down for some.
    assert torch.equal(found["indices"], torch.arange(200))
    assert not torch.equal(found["head.weight"], model.head.weight)


def test_an_average_keeps_the_memory_format() -> None:
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    average = exponential_average(model, DECAY)
    average.update_parameters(model)
    assert average.module.weight.is_contiguous(memory_format=torch.channels_last)


def run(
    folder: Path,
    *,
    model: nn.Module | None = None,
    on_epoch: Callable[..., None] = lambda *_: None,
    each_step: Callable[[nn.Module], None] = lambda _: None,
) -> tuple[nn.Module, TrainingHistory]:
    """Train with averaged weights, and show the trained network after each step."""
    model = model or network()
    member = MemberTrainer(model, AVERAGED, steps_per_epoch(TRAIN, BATCH), Checkpoints(folder))
    trainer = JointTrainer(model, OBJECTIVE, [member], judged=member.judged)
    member.optimizer.register_step_post_hook(lambda *_: each_step(model))
    assert fit([trainer], training, validation, on_epoch=on_epoch) == {}
    return model, member.history


def test_the_average_is_judged_and_kept(tmp_path: Path) -> None:
    averages: list[dict[str, Tensor]] = []

    def follow(model: nn.Module) -> None:
        state = {name: value.clone() for name, value in model.state_dict().items()}
        if averages:
            before = averages[-1]
            state = {
                name: DECAY * before[name] + (1 - DECAY) * value if value.is_floating_point() else value
                for name, value in state.items()
            }
        averages.append(state)

    model, history = run(tmp_path / "c", each_step=follow)
    steps = len(averages) // 3
    best = averages[steps * (history.best_epoch + 1) - 1]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, best[name])
    (metrics,) = judge([(model, OBJECTIVE)], validation())
    assert metrics == {name: history.epochs[history.best_epoch][name] for name in metrics}
    # The file has the averages too, from which other processes read the result.
    fresh = network(seed=99)
    Checkpoints(tmp_path / "c").load_best(fresh)
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in model.state_dict().items())


class _Killed(Exception):
    pass


def _kill(epoch: int, _position: int, number: int, _metrics: dict[str, float]) -> None:
    if number == epoch:
        raise _Killed


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_killed_and_resumed_is_as_if_never_killed(tmp_path: Path, epoch: int) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(_Killed):
        run(tmp_path / "c", on_epoch=partial(_kill, epoch))
    assert_same_training(whole, run(tmp_path / "c", model=network(seed=99)))
