"""The search space: the values of each parameter, and the values of others under which it exists.

A space is a JSON or YAML object, parameter -> `[choices]`, or `{"choices": [...]}`, or `{"low": 0.1, "high": 0.9}` with
`"log"` or `"step"`. Each object may have `"when": {"other": value}`, where the value is one, a list of them, or `{"above":
number}`.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from optuna import Trial, create_trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from sensai.documents import parse_yaml, read_text, shown
from sensai.errors import InputError, suggestion

Values = dict[str, Any]

# The price of a result: every trial has this parameter, searched or given.
EPOCHS = "epochs"
_EPOCHS = IntDistribution(0, 1_000_000)
_KEYS = ("choices", "low", "high", "log", "step", "when")
_SCALARS = (str, int, float, bool, type(None))
_MOST_BYTES = 2**17
_MOST_CHOICES = 1000
# Most errors of one file that a message names.
_MOST_NAMED = 5


@dataclass(frozen=True)
class Allowed:
    """The parameters and values that a space may contain.

    Attributes:
        whole: parameter -> True if it is a whole number.
        refused: returns why a parameter cannot have a value; empty if it can.
    """

    whole: Mapping[str, bool]
    refused: Callable[[str, Any], str]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a space.

    Attributes:
        name: its name in the stages.
        distribution: its possible values.
        when: other parameter -> its value for which this one exists.
    """

    name: str
    distribution: BaseDistribution
    when: Mapping[str, Any]

    def exists(self, values: Mapping[str, Any]) -> bool:
        """Return True if it exists beside these values."""
        return all(other in values and _holds(wanted, values[other]) for other, wanted in self.when.items())


@dataclass(frozen=True)
class Space:
    """All parameters, each after those that it depends on; the epochs are the first, unless they are searched."""

    parameters: tuple[Parameter, ...]
    searches_epochs: bool

    def suggest(self, trial: Trial) -> Values:
        """Return a value for every parameter that exists beside the earlier ones, as the study's sampler suggests it."""
        values: Values = {}
        for each in self.parameters:
            if each.exists(values):
                values[each.name] = _suggest(trial, each)
        return values

    def as_trial(self, values: Mapping[str, Any]) -> tuple[Values, dict[str, BaseDistribution]] | None:
        """Return the parameters and distributions of a trial with these values; None if there is no such trial."""
        inside = [each for each in self.parameters if each.exists(values)]
        if any(each.name not in values for each in inside):
            return None
        params = {each.name: values[each.name] for each in inside}
        distributions = {each.name: each.distribution for each in inside}
        try:
            # Optuna itself checks that the distributions contain the values.
            create_trial(state=TrialState.WAITING, params=params, distributions=distributions)
        except ValueError:
            return None
        return params, distributions


def read_space(path: str) -> Mapping[str, Any]:
    """Return the content of a space's file, JSON or YAML.

    Raises:
        InputError: there is no such file, or it does not contain an object.
    """
    text = read_text(Path(path), "space", _MOST_BYTES)
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise InputError(f"space={path!r}: is neither JSON nor YAML ({error})") from error
    if not isinstance(content, dict) or not content:
        raise InputError(f"space={path!r}: must be an object, parameter -> what it may be")
    return content


def make_space(content: Mapping[str, Any], allowed: Allowed, source: str) -> Space:
    """Return a space from the content of its file.

    Args:
        content: the object described above.
        allowed: parameters and values that it may contain.
        source: its name in messages.

    Raises:
        InputError: the content is wrong; one line names all errors.
    """
    errors: list[str] = []
    parameters = {}
    for name, entry in content.items():
        try:
            parameters[str(name)] = _parameter(str(name), entry, content, allowed)
        except ValueError as error:
            errors.append(f"{name if name in allowed.whole else shown(name)}: {error}")
    searches_epochs = EPOCHS in parameters
    parameters.setdefault(EPOCHS, Parameter(EPOCHS, _EPOCHS, {}))
    errors += [] if errors else _unsatisfiable(parameters)
    if errors:
        more = f"; and {len(errors) - _MOST_NAMED} more" if len(errors) > _MOST_NAMED else ""
        raise InputError(f"space={source!r}: {'; '.join(errors[:_MOST_NAMED])}{more}")
    return Space(tuple(parameters[name] for name in _ordered(parameters, source)), searches_epochs)


def _parameter(name: str, entry: Any, content: Mapping[str, Any], allowed: Allowed) -> Parameter:
    if name not in allowed.whole:
        raise ValueError(f"is no parameter that is searched; {suggestion(name, list(allowed.whole))}")
    given = {"choices": entry} if isinstance(entry, list) else entry
    if not isinstance(given, dict):
        raise ValueError('must be a list of choices, or an object with "choices", or with "low" and "high"')
    if unknown := given.keys() - set(_KEYS):
        raise ValueError(f"{shown(min(map(str, unknown)))} means nothing; {suggestion('', _KEYS)}")
    when = given.get("when", {})
    _check_conditions(when, content, allowed)
    return Parameter(name, _distribution(name, given, allowed), when)


def _distribution(name: str, given: Mapping[str, Any], allowed: Allowed) -> BaseDistribution:
    numbers = [given[key] for key in ("low", "high") if key in given]
    values = given.get("choices", numbers)
    if ("choices" in given) == bool(numbers) or (numbers and len(numbers) < 2):
        raise ValueError('must have either "choices" or both "low" and "high"')
    if not isinstance(values, list) or not values or not all(isinstance(each, _SCALARS) for each in values):
        raise ValueError("must be one or more strings, numbers or truth values")
    if len(values) > _MOST_CHOICES:
        raise ValueError(f"must have at most {_MOST_CHOICES} choices, not {len(values)}")
    if refused := next((why for value in values if (why := allowed.refused(name, value))), ""):
        raise ValueError(refused)
    if "choices" in given:
        if extra := [key for key in ("log", "step") if key in given]:
            raise ValueError(f'{extra[0]} goes with "low" and "high"')
        if doubled := next((each for number, each in enumerate(values) if each in values[:number]), None):
            raise ValueError(f"has the choice {shown(doubled)} twice")
        return CategoricalDistribution(values)
    return _range(given, whole=allowed.whole[name])


def _range(given: Mapping[str, Any], whole: bool) -> BaseDistribution:
    low, high, log, step = given["low"], given["high"], given.get("log", False), given.get("step")
    if not isinstance(log, bool):
        raise ValueError(f"log must be true or false, not {shown(log)}")
    if not all(map(_is_number, (low, high))) or not (step is None or (_is_number(step) and step > 0)):
        raise ValueError("low, high and step must be numbers, and step above 0")
    if whole and not isinstance(step, int | None):
        raise ValueError(f"step must be a whole number, not {shown(step)}")
    # Optuna would only warn that it lowers a bound that no step reaches.
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            if whole:
                return IntDistribution(low, high, log=log, step=1 if step is None else step)
            return FloatDistribution(low, high, log=log, step=step)
        # Optuna counts steps in decimal numbers, of which there may be too many.
        except (UserWarning, ArithmeticError) as error:
            raise ValueError(str(error) or f"step={shown(step)} does not go with low and high") from error


def _check_conditions(when: Any, content: Mapping[str, Any], allowed: Allowed) -> None:
    if not isinstance(when, dict):
        raise ValueError('when must be an object, e.g. {"policy": "ratio"}')
    for other, wanted in when.items():
        if other not in content and other != EPOCHS:
            raise ValueError(f"when names {shown(other)}, which the space does not have")
        if isinstance(wanted, dict):
            if wanted.keys() != {"above"} or not _is_number(wanted["above"]):
                raise ValueError(f'when {other}: must be a value, a list of values, or {{"above": number}}')
            if other in content and not _has_numbers(content[other]):
                raise ValueError(f"when {other}: only numbers are above others, and {other} may be something else")
            continue
        for value in _listed(wanted):
            if not isinstance(value, _SCALARS):
                raise ValueError(f'when {other}: must be a value, a list of values, or {{"above": number}}')
            if refused := allowed.refused(str(other), value):
                raise ValueError(f"when {other}: {refused}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _has_numbers(entry: Any) -> bool:
    """Return True if all possible values of a parameter are numbers, or if there are none."""
    given = {"choices": entry} if isinstance(entry, list) else entry
    choices = given.get("choices", []) if isinstance(given, dict) else []
    return isinstance(choices, list) and all(each is None or _is_number(each) for each in choices)


def _unsatisfiable(parameters: Mapping[str, Parameter]) -> list[str]:
    """Return the errors of conditions that no value of the other parameter satisfies."""
    return [
        f"{each.name}: when {other}: {other} is never {shown(wanted)} in this space"
        for each in parameters.values()
        for other, wanted in each.when.items()
        if not _can_hold(wanted, parameters[other].distribution)
    ]


def _can_hold(wanted: Any, distribution: BaseDistribution) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return any(_holds(wanted, choice) for choice in distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if isinstance(wanted, dict):
        return distribution.high > wanted["above"]
    return any(_is_number(each) and distribution.low <= each <= distribution.high for each in _listed(wanted))


def _ordered(parameters: Mapping[str, Parameter], source: str) -> list[str]:
    """Return the names, with those that others depend on first."""
    try:
        return list(TopologicalSorter({name: list(each.when) for name, each in parameters.items()}).static_order())
    except CycleError as error:
        raise InputError(f"space={source!r}: {' <- '.join(error.args[1])} depend on each other") from error


def _holds(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, dict):
        return value is not None and value > wanted["above"]
    return value in _listed(wanted)


def _listed(wanted: Any) -> Sequence[Any]:
    return wanted if isinstance(wanted, list) else [wanted]


def _suggest(trial: Trial, parameter: Parameter) -> Any:
    match parameter.distribution:
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(parameter.name, choices)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(parameter.name, low, high, step=step, log=log)
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_float(parameter.name, low, high, step=step, log=log)
    raise AssertionError(parameter)
