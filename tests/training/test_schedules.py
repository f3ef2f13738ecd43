"""Every schedule against what all promise."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler

from sensai.training.member_trainer import halve_rates, plain
from sensai.training.schedules import SCHEDULES

PEAK, STEPS = 0.05, 24


def made(name: str, decay_start: int = STEPS - 9) -> tuple[SGD, LRScheduler]:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(2))], lr=PEAK)
    inputs = SimpleNamespace(
        optimizer=optimizer,
        peak_lr=PEAK,
        steps=STEPS,
        steps_per_epoch=6,
        decay_steps=9,
        decay_start=lambda: decay_start,
    )
    return optimizer, SCHEDULES[name](inputs)


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


def test_warm_up_stable_and_decay_are_those_of_the_papers() -> None:
    found = rates(*made("warmup_stable_decay"), STEPS)
    decay = [PEAK * (1 - math.sqrt(step / 9)) for step in range(9)]
    assert found == pytest.approx([PEAK * step / 6 for step in range(1, 7)] + [PEAK] * 9 + decay)


def test_an_earlier_decay_is_that_of_a_shorter_training() -> None:
    """Warm up 6 batches, then decay from batch 12 on."""
    whole, shorter = (rates(*made("warmup_stable_decay", start), STEPS) for start in (15, 12))
    assert shorter[:13] == whole[:13]
    assert shorter[12:21] == whole[15:]


def test_without_time_for_more_than_the_decay_there_is_no_warm_up() -> None:
    assert rates(*made("warmup_stable_decay", 0), 2)[0] == PEAK
