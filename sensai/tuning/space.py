"""The search space: what each parameter may be, and under which others' values it exists.

Written as a JSON or YAML object, parameter -> `[choices]`, or `{"choices": [...]}`, or `{"low": 0.1, "high": 0.9}` with `"log"`
or `"step"`; each object may have `"when": {"other": value}`, where the value is one, a list of them, or `{"above": number}`.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import yaml
from optuna import Trial, create_trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from sensai.errors import InputError, suggestion
from sensai.files import regular_file

Values = dict[str, Any]

# What a result is bought with: every trial has it, whether it is searched or given.
EPOCHS = "epochs"
_EPOCHS = IntDistribution(0, 1_000_000)
_KEYS = ("choices", "low", "high", "log", "step", "when")
_SCALARS = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Allowed:
    """What may stand in a space.

    Attributes:
        whole: parameter -> whether it is a whole number.
        refused: why a parameter cannot have a value; empty where it can.
    """

    whole: Mapping[str, bool]
    refused: Callable[[str, Any], str]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a space.

    Attributes:
        name: as the stages call it.
        distribution: what it may be.
        when: other parameter -> what that must be for this one to exist.
    """

    name: str
    distribution: BaseDistribution
    when: Mapping[str, Any]

    def exists(self, values: Mapping[str, Any]) -> bool:
        """Whether it exists beside these values."""
        return all(other in values and _holds(wanted, values[other]) for other, wanted in self.when.items())


@dataclass(frozen=True)
class Space:
    """All parameters, each after those that it depends on; with the epochs, unless these are searched, as the first."""

    parameters: tuple[Parameter, ...]
    searches_epochs: bool

    def suggest(self, trial: Trial) -> Values:
        """A value for every parameter that exists beside those before it, as the study's sampler draws it."""
        values: Values = {}
        for each in self.parameters:
            if each.exists(values):
                values[each.name] = _suggest(trial, each)
        return values

    def located(self, values: Mapping[str, Any]) -> tuple[Values, dict[str, BaseDistribution]] | None:
        """The parameters, with their distributions, under which a trial has these values; None where it cannot."""
        inside = [each for each in self.parameters if each.exists(values)]
        if any(each.name not in values for each in inside):
            return None
        params = {each.name: values[each.name] for each in inside}
        distributions = {each.name: each.distribution for each in inside}
        try:
            # Optuna itself says whether they hold the values.
            create_trial(state=TrialState.WAITING, params=params, distributions=distributions)
        except ValueError:
            return None
        return params, distributions


def read_space(path: str) -> Mapping[str, Any]:
    """The content of a space's file, JSON or YAML.

    Raises:
        InputError: there is no such file, or it holds no object.
    """
    regular_file(Path(path), "space")
    try:
        content = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise InputError(f"space={path!r}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"space={path!r}: is neither JSON nor YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict) or not content:
        raise InputError(f"space={path!r}: must be an object, parameter -> what it may be")
    return content


def make_space(content: Mapping[str, Any], allowed: Allowed, source: str) -> Space:
    """A space from what its file says.

    Args:
        content: the object described above.
        allowed: what may stand in it.
        source: named in messages.

    Raises:
        InputError: all that is wrong with it, in one line.
    """
    errors: list[str] = []
    parameters = {}
    for name, entry in content.items():
        try:
            parameters[str(name)] = _parameter(str(name), entry, content, allowed)
        except ValueError as error:
            errors.append(f"{name}: {error}")
    if errors:
        raise InputError(f"space={source!r}: {'; '.join(errors)}")
    searches_epochs = EPOCHS in parameters
    parameters.setdefault(EPOCHS, Parameter(EPOCHS, _EPOCHS, {}))
    return Space(tuple(parameters[name] for name in _ordered(parameters, source)), searches_epochs)


def _parameter(name: str, entry: Any, content: Mapping[str, Any], allowed: Allowed) -> Parameter:
    if name not in allowed.whole:
        raise ValueError(f"is no parameter that is searched; {suggestion(name, list(allowed.whole))}")
    given = {"choices": entry} if isinstance(entry, list) else entry
    if not isinstance(given, dict):
        raise ValueError('must be a list of choices, or an object with "choices", or with "low" and "high"')
    if unknown := given.keys() - set(_KEYS):
        raise ValueError(f"{sorted(map(str, unknown))[0]!r} means nothing; {suggestion('', _KEYS)}")
    when = given.get("when") or {}
    _check_conditions(when, content, allowed)
    return Parameter(name, _distribution(name, given, allowed), when)


def _distribution(name: str, given: Mapping[str, Any], allowed: Allowed) -> BaseDistribution:
    numbers = [given[key] for key in ("low", "high") if key in given]
    values = given.get("choices", numbers)
    if ("choices" in given) == bool(numbers) or (numbers and len(numbers) < 2):
        raise ValueError('must have either "choices" or both "low" and "high"')
    if not isinstance(values, list) or not values or not all(isinstance(each, _SCALARS) for each in values):
        raise ValueError("must be one or more strings, numbers or truth values")
    if refused := next((why for value in values if (why := allowed.refused(name, value))), ""):
        raise ValueError(refused)
    if "choices" in given:
        return CategoricalDistribution(values)
    return _range(given, whole=allowed.whole[name])


def _range(given: Mapping[str, Any], whole: bool) -> BaseDistribution:
    low, high, log, step = given["low"], given["high"], bool(given.get("log")), given.get("step")
    if not all(isinstance(each, int | float) for each in (low, high, step or 1)):
        raise ValueError("low, high and step must be numbers")
    # Optuna would lower a bound that no step reaches, with a warning only.
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            if whole:
                return IntDistribution(low, high, log=log, step=step or 1)
            return FloatDistribution(low, high, log=log, step=step)
        except UserWarning as warning:
            raise ValueError(str(warning)) from warning


def _check_conditions(when: Any, content: Mapping[str, Any], allowed: Allowed) -> None:
    if not isinstance(when, dict):
        raise ValueError('when must be an object, e.g. {"policy": "ratio"}')
    for other, wanted in when.items():
        if other not in content and other != EPOCHS:
            raise ValueError(f"when names {other!r}, which the space does not have")
        if isinstance(wanted, dict):
            if wanted.keys() != {"above"} or not isinstance(wanted["above"], int | float):
                raise ValueError(f'when {other}: must be a value, a list of values, or {{"above": number}}')
            continue
        for value in _listed(wanted):
            if refused := allowed.refused(str(other), value):
                raise ValueError(f"when {other}: {refused}")


def _ordered(parameters: Mapping[str, Parameter], source: str) -> list[str]:
    """Names, those that others depend on first."""
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
