"""The usage of a parameter: when it matters, to which stages, and whether `tune` searches it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from inspect import get_annotations
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sensai.config.conditions import ALWAYS, Condition


@dataclass(frozen=True)
class Between:
    """The range of a number that `tune` searches by default.

    Attributes:
        low: included.
        high: included.
        log: search the logarithm evenly.
    """

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Among:
    """The choices that `tune` searches by default."""

    choices: tuple[str, ...]


@dataclass(frozen=True)
class Usage:
    """The results that a parameter changes, and how it is treated.

    Attributes:
        when: the condition under which any result depends on it.
        enters: stage -> the condition under which that stage's fingerprint has it. Empty: the fingerprint of the stage that
            owns it, under `when`.
        operational: it says where and how something runs. It changes no result, and no run inherits it.
        by_content: it names a file or folder whose content enters fingerprints, not its path.
        code: it may name a function in a file of the user's.
        search: what `tune` searches by default; True: only where a file says so; False: never.
        later: it came after runs were stored. Those have its default, so it enters fingerprints, and the digests of studies,
            only with another value.
        everyday: most users set it, so MLproject lists it at every entry point that takes it.
    """

    when: Condition = ALWAYS
    enters: Mapping[str, Condition] = field(default_factory=dict)
    operational: bool = False
    by_content: bool = False
    code: bool = False
    search: Between | Among | bool = True
    everyday: bool = False
    later: bool = False


@dataclass(frozen=True)
class Parameter:
    """One parameter of an entry point.

    Attributes:
        name: on the command line, in MLproject, in logged runs.
        owner: the stage whose section declares it; empty for those of every entry point.
        field: type, default and help.
        usage: what it makes a difference to.
    """

    name: str
    owner: str
    field: FieldInfo
    usage: Usage

    def matters(self, config: object) -> bool:
        """Return True if a result may depend on it, given the values of a configuration."""
        return self.usage.when(config) is not False

    @property
    def stages(self) -> frozenset[str]:
        """Return the stages whose results may depend on it."""
        return frozenset(self.usage.enters or {self.owner})

    @property
    def in_fingerprints(self) -> bool:
        """Return True if it enters fingerprints as a value."""
        return not (self.usage.operational or self.usage.by_content)

    def is_as_before(self, config: object) -> bool:
        """Return True if it is a later parameter that has the value of earlier runs."""
        return self.usage.later and getattr(config, self.name, self.field.default) == self.field.default

    def enters(self, stage: str, config: object) -> bool:
        """Return True if it enters the fingerprint of a stage, given the values of a configuration."""
        if not self.in_fingerprints or not self.matters(config) or self.is_as_before(config):
            return False
        if self.usage.enters:
            condition = self.usage.enters.get(stage)
            return condition is not None and condition(config) is not False
        return self.owner == stage


@lru_cache(maxsize=64)
def parameters_of(config: type[BaseModel]) -> Mapping[str, Parameter]:
    """Return the parameters of an entry point by name, in the order of the data flow."""
    sections = [each for each in reversed(config.__mro__) if issubclass(each, BaseModel)]
    owners: dict[str, Any] = {name: each for each in sections for name in get_annotations(each)}
    return {name: Parameter(name, owners[name].owner, info, _usage(info)) for name, info in config.model_fields.items()}


@lru_cache(maxsize=64)
def defaults_of(config: type[BaseModel]) -> Mapping[str, Any]:
    """Return the default of each parameter as a text, a number, a truth value or None."""
    return config.model_construct().model_dump()


def default_texts(config: type[BaseModel]) -> dict[str, str]:
    """Return the defaults as MLproject and the command line have them."""
    return {name: as_text(value) for name, value in defaults_of(config).items()}


def as_text(value: object) -> str:
    """Return a value as text for the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _usage(info: FieldInfo) -> Usage:
    return next((each for each in info.metadata if isinstance(each, Usage)), Usage())
