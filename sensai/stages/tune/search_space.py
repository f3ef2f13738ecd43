"""Make the space that `tune` searches: the default one, or that of a file."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import RandomSampler
from pydantic import ValidationError

from sensai.config import GroupConfig, PruneConfig, RetrainConfig, TuneConfig, describe_errors, refusal
from sensai.errors import InputError
from sensai.tuning.space import EPOCHS, Allowed, Space, make_space, read_space

_DEFAULT = "the default"
# These say where a stage runs; and the path of a file says nothing of its content.
_NOT_SEARCHED = {"groups_file", "jobs", "threads", "backend", "ray_address"}
_MOST_GROUPS = 10
_DRAWS = 200
_BY_RATIO = {"policy": "ratio"}
_BY_THRESHOLD = {"policy": "threshold"}


def space_of(config: TuneConfig, classes: int) -> tuple[Mapping[str, Any], Space]:
    """Return the content and the space that the parameters ask for.

    Args:
        config: of tune.
        classes: how many the data have.

    Raises:
        InputError: the file is not a space, or its values do not go together.
    """
    content = read_space(config.space) if config.space else _left(default_content(classes), config)
    source = config.space or _DEFAULT
    space = make_space(content, _allowed(), source)
    if space.searches_epochs and config.fidelities:
        raise InputError(f"fidelities={config.fidelities!r}: the space {source!r} searches epochs itself")
    _check(space, config, classes, source)
    return content, space


def default_content(classes: int) -> dict[str, Any]:
    """Return the content of the space that is searched without a file."""
    groups = {"low": 2, "high": min(classes - 1, _MOST_GROUPS)}
    grouped = ["min_flops", "least_similar", "random"] if classes > 2 else []
    return {
        "method": ["singletons", *grouped],
        **({"n_groups": {**groups, "when": {"method": grouped}}} if grouped else {}),
        "policy": ["ratio", "threshold"],
        "ratio": {"low": 0.05, "high": 0.95, "when": _BY_RATIO},
        "criterion": {"choices": ["apoz", "mean", "l1"], "when": _BY_RATIO},
        "ranking": {"choices": ["global", "layer"], "when": _BY_RATIO},
        "apoz_threshold": {"low": 0.3, "high": 0.95, "when": _BY_THRESHOLD},
        "mean_threshold": {"low": 0.001, "high": 1.0, "log": True, "when": _BY_THRESHOLD},
        "loss": {"choices": ["bce", "kd", "joint", "joint_kd"], "when": {EPOCHS: {"above": 0}}},
    }


def _left(content: Mapping[str, Any], config: TuneConfig) -> dict[str, Any]:
    """Return the default without parameters that the command line sets to another value, or that have no effect beside them."""
    defaults = TuneConfig()
    fixed = {name for name in content if getattr(config, name) != getattr(defaults, name)}
    left = {}
    for name, entry in content.items():
        when = entry.get("when", {}) if isinstance(entry, dict) else {}
        met = all(getattr(config, other) in _listed(wanted) for other, wanted in when.items() if other in fixed)
        if name in fixed or not met:
            continue
        conditions = {other: wanted for other, wanted in when.items() if other not in fixed}
        left[name] = {**entry, "when": conditions} if isinstance(entry, dict) else entry
    return left


def _listed(wanted: Any) -> list[Any]:
    return wanted if isinstance(wanted, list) else [wanted]


def _allowed() -> Allowed:
    own = GroupConfig.own_parameters() | PruneConfig.own_parameters() | RetrainConfig.own_parameters() | {"criterion"}
    properties = RetrainConfig.model_json_schema()["properties"]
    return Allowed(
        {name: "integer" in _types(properties[name]) for name in sorted(own - _NOT_SEARCHED)},
        lambda name, value: refusal(RetrainConfig, name, value),
    )


def _types(schema: Mapping[str, Any]) -> set[str]:
    return {each.get("type", "") for each in schema.get("anyOf", [schema])}


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
