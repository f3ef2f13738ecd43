"""Every stop rule against what all promise, and what the rules that are named make of a training's parameters."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensai.errors import InputError
from sensai.training.stop_rules import STOP_RULES
from sensai.training.stopping import DEFAULT_STOP_RULES, reason_to_stop, unused_by

VALUES = st.lists(st.floats(0, 1), max_size=12)


@pytest.mark.parametrize("name", STOP_RULES)
@given(values=VALUES, patience=st.integers(1, 4), min_gain=st.floats(0, 1), target=st.floats(0, 1))
def test_a_rule_decides_by_its_inputs_alone(
    name: str, values: list[float], patience: int, min_gain: float, target: float
) -> None:
    inputs = SimpleNamespace(values=tuple(values), patience=patience, min_gain=min_gain, target=target)
    holds = STOP_RULES[name](inputs)
    assert isinstance(holds, bool)
    assert STOP_RULES[name](inputs) == holds
    if not values:
        assert not holds


@given(values=VALUES, patience=st.integers(1, 4), min_gain=st.floats(0, 0.5))
def test_a_plateau_is_patience_epochs_of_which_none_gains(values: list[float], patience: int, min_gain: float) -> None:
    best, since = -1.0, 0
    for value in values:
        if value > best + min_gain:
            best, since = value, 0
        else:
            since += 1
    stops = reason_to_stop(["plateau"], values, patience=patience, min_gain=min_gain, target=None) == "plateau"
    assert stops == (since >= patience)


@pytest.mark.parametrize("rules", [["target", "plateau"], ["plateau", "target"]])
def test_a_goal_is_the_reason_before_other_rules_and_the_last_epoch(rules: list[str]) -> None:
    given = {"patience": 1, "min_gain": 0.0, "target": 0.5}
    assert reason_to_stop(rules, [0.9, 0.8], **given) == "target"
    assert reason_to_stop(rules, [0.9, 0.8], **given, last_epoch=True) == "target"
    assert reason_to_stop(rules, [0.4, 0.3], **given) == "plateau"
    # A plateau in the last epoch has stopped nothing.
    assert reason_to_stop(rules, [0.4, 0.3], **given, last_epoch=True) == "epochs"
    assert reason_to_stop(rules, [0.2, 0.3], **given) == ""
    assert reason_to_stop([], [0.9, 0.8], **given) == ""


def test_a_rule_whose_parameter_is_off_is_not_asked() -> None:
    assert reason_to_stop(DEFAULT_STOP_RULES, [0.9] * 9, patience=0, min_gain=0.0, target=None) == ""


def test_parameters_matter_to_the_rules_that_use_them() -> None:
    assert unused_by(["plateau", "target"], 0, None) == {"min_gain"}
    assert unused_by(["plateau", "target"], 3, None) == set()
    assert unused_by(["target"], 3, 0.5) == {"patience", "min_gain"}
    assert unused_by(["plateau"], 3, 0.5) == {"target"}
    assert unused_by([], 3, 0.5) == {"patience", "min_gain", "target"}


def test_a_rule_that_is_none_is_said() -> None:
    with pytest.raises(InputError, match=r"'plateu' is no stop rule; did you mean plateau\?"):
        reason_to_stop(["plateu"], [0.5], patience=1, min_gain=0.0, target=None)
