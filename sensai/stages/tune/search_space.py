"""Make the space that `tune` searches: the default one, or that of a file."""

from collections.abc import Mapping
from itertools import product
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import RandomSampler
from pydantic import ValidationError

from sensai.config import RetrainConfig, TuneConfig, describe_errors, refusal
from sensai.config.annotations import is_whole_number
from sensai.config.conditions import Condition
from sensai.config.usage import Among, Between, Parameter, parameters_of
from sensai.errors import InputError
from sensai.grouping.methods import METHODS
from sensai.tuning.space import EPOCHS, Allowed, Space, make_space, read_space

_DEFAULT = "the default"
_DRAWS = 200
_STAGES = ("group", "prune", "retrain")


def space_of(config: TuneConfig, classes: int) -> tuple[Mapping[str, Any], Space]:
    """Return the content and the space that the parameters ask for.

    Args:
        config: of tune.
        classes: how many the data have.

    Raises:
        InputError: the file is not a space, or its values do not go together.
    """
    content = read_space(config.space) if config.space else default_content(config, classes)
    source = config.space or _DEFAULT
    space = make_space(content, _allowed(), source)
    if space.searches_epochs and config.fidelities:
        raise InputError(f"fidelities={config.text('fidelities')!r}: the space {source!r} searches epochs itself")
    _check(space, config, classes, source)
    return content, space


def default_content(config: TuneConfig, classes: int) -> dict[str, Any]:
    """Return the space where no file names another, as such a file would have it.

    It has the parameters that declare what `tune` searches, but those that the command line sets, and those that make no
    difference beside what it sets.
    """
    content: dict[str, Any] = {}
    for each in sorted(parameters_of(RetrainConfig).values(), key=_last_stage):
        entry = _declared(each, classes)
        if entry is not None and getattr(config, each.name) == each.field.default:
            content[each.name] = entry
    return _conditioned(content, config)


def _last_stage(parameter: Parameter) -> int:
    return max((_STAGES.index(stage) for stage in parameter.stages & set(_STAGES)), default=-1)


def _declared(parameter: Parameter, classes: int) -> dict[str, Any] | None:
    """Return the values that a parameter declares for the search, within the limits of this many classes."""
    match parameter.usage.search:
        case Among(choices):
            return {"choices": [each for each in choices if parameter.name != "method" or _possible(each, classes)]}
        case Between(low, high, log):
            high = min(classes - 1, high) if parameter.name == "n_groups" else high
            return {"low": low, "high": high} | ({"log": True} if log else {})
    return None


def _possible(method: str, classes: int) -> bool:
    """Return True if a method can make more than one group, and fewer than one a class."""
    return classes > 2 or "n_groups" not in METHODS[method].uses


def _conditioned(content: Mapping[str, Any], config: TuneConfig) -> dict[str, Any]:
    """Return the entries with the values of others under which they matter; without those that never do."""
    values = {name: entry["choices"] for name, entry in content.items() if "choices" in entry} | {EPOCHS: [0, 1]}
    conditioned = {}
    for name, entry in content.items():
        parameter = parameters_of(RetrainConfig)[name]
        condition = parameter.usage.enters.get(_STAGES[_last_stage(parameter)], parameter.usage.when)
        if (when := _when(condition, values, config)) is not None:
            conditioned[name] = {**entry, "when": when} if when else entry.get("choices", entry)
    return conditioned


def _when(condition: Condition, values: Mapping[str, list[Any]], config: TuneConfig) -> dict[str, Any] | None:
    """Return a condition on searched parameters in the form of a space, None if it is never true."""
    searched = sorted(condition.names & values.keys())
    met = [
        chosen
        for chosen in product(*(values[name] for name in searched))
        if condition(SimpleNamespace(**{**dict(config), **dict(zip(searched, chosen, strict=True))})) is not False
    ]
    when = {}
    for position, name in enumerate(searched):
        allowed = [value for value in values[name] if any(chosen[position] == value for chosen in met)]
        if allowed != values[name]:
            when[name] = {"above": 0} if name == EPOCHS else allowed[0] if len(allowed) == 1 else allowed
    return when if met else None


def _allowed() -> Allowed:
    """Return the parameters that a space may have."""
    known = parameters_of(RetrainConfig)
    return Allowed(
        {name: is_whole_number(known[name].field.annotation) for name in sorted(RetrainConfig.searched_names())},
        lambda name, value: refusal(RetrainConfig, name, value),
    )


def _check(space: Space, config: TuneConfig, classes: int, source: str) -> None:
    """Draw from the space, and refuse too many groups and values that do not go together.

    Raises:
        InputError: says which values.
    """
    most = max((_most(each.distribution) for each in space.parameters if each.name == "n_groups"), default=0)
    if most > classes:
        raise InputError(f"space={source!r}: n_groups: up to {most}, but there are only {classes} classes")
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    for _ in range(_DRAWS):
        values = space.suggest(study.ask())
        try:
            config.trial(**values)
        except ValidationError as error:
            raise InputError(f"space={source!r}: with {_listing(values)}: {describe_errors(error)}") from error


def _most(distribution: BaseDistribution) -> int:
    """Return the largest whole number of a distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return max((each for each in distribution.choices if isinstance(each, int)), default=0)
    return distribution.high if isinstance(distribution, IntDistribution) else 0


def _listing(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items() if name != EPOCHS)
