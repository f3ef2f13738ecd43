"""The search space: refused spaces, suggested values, and logged configurations inside it."""

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler

from sensai.errors import InputError
from sensai.tuning.space import EPOCHS, make_space, read_space
from tests.helpers.toy_study import ALLOWED, space

CIRCLE = {
    "loss": {"choices": ["kd"], "when": {"method": "x"}},
    "method": {"choices": ["x"], "when": {"loss": "kd"}},
}
METHOD = {"method": ["random", "singletons"]}
RATIO = {"ratio": {"low": 0.1, "high": 0.9}}


def made(content: dict[str, Any]) -> object:
    return make_space(content, ALLOWED, "space.yaml")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"rato": [0.1]}, "'rato': is no parameter that is searched; did you mean ratio?"),
        ({"ratio": [-1], "n_groups": [-2]}, "ratio=-1: must be above 0; n_groups: n_groups=-2: must be above 0"),
        ({"ratio": 0.5}, 'must be a list of choices, or an object with "choices"'),
        ({"ratio": []}, "must be one or more strings, numbers or truth values"),
        ({"ratio": {"low": 0.1}}, 'must have either "choices" or both "low" and "high"'),
        ({"ratio": {"low": 0.1, "high": 0.9, "choices": [0.5]}}, 'must have either "choices" or both'),
        ({"ratio": {"lo": 0.1, "high": 0.9}}, "'lo' means nothing; allowed are choices, low, high, log, step, when"),
        ({"ratio": {"low": 0.9, "high": 0.1}}, "`low <= high` must hold"),
        ({"ratio": {"low": 0.1, "high": "much"}}, "low, high and step must be numbers"),
        ({"ratio": {"low": 0.0, "high": 0.9, "log": True}}, "`low > 0` must hold for `log=True`"),
        ({"ratio": {"low": 0.1, "high": 0.9, "step": 0.3}}, "not divisible by `step`"),
        ({"ratio": {"choices": [0.1], "when": {"policy": "ratio"}}}, "when names 'policy', which the space does not have"),
        ({"ratio": {"low": 0.1, "high": 0.9, "when": {EPOCHS: {"over": 1}}}}, f"when {EPOCHS}: must be a value, a list"),
        (RATIO | {"method": {"choices": ["random"], "when": {"ratio": -1}}}, "when ratio: ratio=-1: must be above 0"),
        (CIRCLE, "depend on each other"),
        ({"ratio": {"low": 0.1, "high": 0.9, "log": "no"}}, "ratio: log must be true or false, not 'no'"),
        ({"ratio": {"low": 0.1, "high": 0.9, "step": 0}}, "step above 0"),
        ({"n_groups": {"low": 1, "high": 9, "step": 0.5}}, "step must be a whole number, not 0.5"),
        ({"ratio": {"low": 0.1, "high": True}}, "low, high and step must be numbers"),
        ({"ratio": {"choices": [0.1, 0.2], "log": True}}, 'log goes with "low" and "high"'),
        ({"ratio": [0.5, 0.7, 0.5]}, "ratio: has the choice 0.5 twice"),
        ({"ratio": [number / 2000 for number in range(1001)]}, "must have at most 1000 choices, not 1001"),
        ({"ratio": {"choices": [0.1], "when": False}}, "when must be an object"),
        ({"ratio": {"choices": [0.1], "when": {EPOCHS: {"above": math.nan}}}}, f"when {EPOCHS}: must be a value, a list"),
        ({"ratio": {"choices": [0.1], "when": {EPOCHS: {"above": True}}}}, f"when {EPOCHS}: must be a value, a list"),
        ({"ratio": {"choices": [0.1], "when": {EPOCHS: [[1]]}}}, f"when {EPOCHS}: must be a value, a list"),
        (METHOD | {"ratio": {"choices": [0.1], "when": {"method": {"above": 3}}}}, "when method: only numbers are above"),
        (METHOD | {"ratio": {"choices": [0.1], "when": {"method": "kmeans"}}}, "method is never 'kmeans' in this space"),
        (RATIO | {"method": {"choices": ["random"], "when": {"ratio": 0.95}}}, "ratio is never 0.95 in this space"),
        (RATIO | {"method": {"choices": ["random"], "when": {"ratio": {"above": 0.9}}}}, "is never {'above': 0.9} in this"),
        ({f"x{number}": [1] for number in range(50)}, "; and 45 more"),
    ],
)  # fmt: skip
def test_what_is_refused_says_why_in_one_line(content: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refused:
        made(content)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("space='space.yaml': ")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is neither JSON nor YAML"),
        ("[1]", "must be an object"),
        ("", "must be"),
        ("ratio: [0.1]\nratio: [0.2]", "the key 'ratio' stands twice"),
        ('{"ratio": {"low": 0.1, "low": 0.2}}', "the key 'low' stands twice"),
        ("ratio: [.nan]", "nan is no number"),
        ("[" * 60_000, "nested more than 50 levels deep"),
        ('{"a":' * 20_000, "nested more than 50 levels deep"),
        (f"ratio: [{'9' * 5000}]", "4300 digits"),
        ("ratio: [2001-99-99]", "month must be in 1..12"),
        ("#" * 200_000, "has more than 131,072 bytes"),
    ],
)
def test_files_that_hold_no_space(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_space(str(tmp_path / "space.yaml"))
    with pytest.raises(InputError, match="there is no such file"):
        read_space(str(tmp_path / "nowhere.yaml"))


def test_json_and_yaml_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"ratio": {"low": 0.1, "high": 0.9}, "method": ["random"]}')
    (tmp_path / "b.yaml").write_text("ratio: {low: 0.1, high: 0.9}\nmethod: [random]\n")
    assert read_space(str(tmp_path / "a.json")) == read_space(str(tmp_path / "b.yaml"))


def test_parameters_are_drawn_only_where_they_exist() -> None:
    drawing = optuna.create_study(sampler=RandomSampler(0))
    drawn = [space().suggest(drawing.ask()) for _ in range(30)]
    assert {("n_groups" in values) == (values["method"] == "random") for values in drawn} == {True}
    assert {values["method"] for values in drawn} == {"random", "singletons"}
    assert all("loss" in values for values in drawn if values[EPOCHS] > 0)


def test_what_is_drawn_lies_in_the_space_with_the_same_parameters() -> None:
    drawing = optuna.create_study(sampler=RandomSampler(1))
    for _ in range(10):
        trial = drawing.ask()
        values = space().suggest(trial)
        assert space().as_trial({**values, "something": "else"}) == (trial.params, trial.distributions)


@pytest.mark.parametrize(
    ("changed", "inside"),
    [
        ({}, True),
        ({"ratio": 0.95}, False),
        ({"method": "min_flops"}, False),
        ({"method": "random", "n_groups": 4}, True),
        ({"method": "random", "n_groups": 9}, False),
        ({"method": "random"}, False),
        # Parameters that do not exist beside the others are ignored.
        ({"n_groups": 9, "loss": "none"}, True),
        ({EPOCHS: 5, "loss": "kd"}, True),
        ({EPOCHS: 5, "loss": "joint"}, False),
    ],
)
def test_which_configurations_lie_in_the_space(changed: dict[str, Any], inside: bool) -> None:
    found = space().as_trial({"ratio": 0.5, "method": "singletons", EPOCHS: 0, **changed})
    assert (found is not None) == inside


def test_numbers_with_exponents_are_numbers_in_yaml_too(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("ratio: [1e-3, 2E-3]\n")
    assert read_space(str(tmp_path / "space.yaml")) == {"ratio": [0.001, 0.002]}


def test_conditions_that_some_value_meets() -> None:
    content = RATIO | {"n_groups": [2, 4], "method": {"choices": ["random"], "when": {"n_groups": {"above": 3}}}}
    made({**content, "loss": {"choices": ["kd"], "when": {"ratio": [0.95, 0.5], EPOCHS: {"above": 0}}}})
