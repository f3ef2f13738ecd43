"""Every schedule against what all promise."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler

from sensai.training.member_trainer import halve_rates, plain
from sensai.training.schedules import SCHEDULES

PEAK, STEPS = 0.05, 24


def made(name: str) -> tuple[SGD, LRScheduler]:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(2))], lr=PEAK)
    return optimizer, SCHEDULES[name](SimpleNamespace(optimizer=optimizer, peak_lr=PEAK, steps=STEPS))


def rates(optimizer: SGD, scheduler: LRScheduler, steps: int) -> list[float]:
    """The learning rate of each of the next steps."""
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_positive_and_come_to_their_peak(name: str) -> None:
    optimizer, scheduler = made(name)
    assert isinstance(scheduler, LRScheduler)
    found = rates(optimizer, scheduler, STEPS)
    assert min(found) > 0
    assert max(found) == pytest.approx(PEAK, rel=0.02)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_resumes_from_its_state_as_json(name: str) -> None:
    whole = rates(*made(name), STEPS)
    optimizer, scheduler = made(name)
    rates(optimizer, scheduler, 7)
    state = json.loads(json.dumps([optimizer.state_dict()["param_groups"], plain(scheduler.state_dict())]))
    resumed, other = made(name)
    resumed.load_state_dict({"state": {}, "param_groups": state[0]})
    other.load_state_dict(state[1])
    assert rates(resumed, other, STEPS - 7) == whole[7:]


@pytest.mark.parametrize("name", SCHEDULES)
def test_halved_rates_stay_half_to_the_end(name: str) -> None:
    whole = rates(*made(name), STEPS)
    optimizer, scheduler = made(name)
    rates(optimizer, scheduler, 7)
    halve_rates(optimizer, scheduler)
    assert rates(optimizer, scheduler, STEPS - 7) == pytest.approx([rate / 2 for rate in whole[7:]])
