"""Conditions under which a parameter matters, as data: they are evaluated, and shown as text."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from sensai.parts import Family

_MISSING = object()


class Condition(ABC):
    """A statement about the values of a configuration.

    A call returns True or False, or None where the configuration lacks a parameter that the statement names. Conditions
    combine by `&`, `|` and `~`; None is then an unknown truth value.
    """

    @abstractmethod
    def __call__(self, config: object) -> bool | None:
        """Return True or False for a configuration, None where that is unknown."""

    @abstractmethod
    def __str__(self) -> str:
        """Return the statement as text for people."""

    @property
    @abstractmethod
    def names(self) -> frozenset[str]:
        """Return the names of its parameters."""

    def __and__(self, other: "Condition") -> "Condition":
        return _All(self, other)

    def __or__(self, other: "Condition") -> "Condition":
        return _Any(self, other)

    def __invert__(self) -> "Condition":
        return _Not(self)


@dataclass(frozen=True)
class _Always(Condition):
    def __call__(self, config: object) -> bool | None:
        return True

    def __str__(self) -> str:
        return "always"

    @property
    def names(self) -> frozenset[str]:
        return frozenset()


ALWAYS = _Always()


@dataclass(frozen=True)
class _OfOne(Condition):
    """A statement about the value of one parameter."""

    name: str

    def __call__(self, config: object) -> bool | None:
        value = getattr(config, self.name, _MISSING)
        return None if value is _MISSING else self._holds(value)

    @abstractmethod
    def _holds(self, value: Any) -> bool: ...

    @property
    def names(self) -> frozenset[str]:
        return frozenset({self.name})


@dataclass(frozen=True)
class Is(_OfOne):
    """A parameter has a certain value."""

    value: object

    def _holds(self, value: Any) -> bool:
        return bool(value == self.value)

    def __str__(self) -> str:
        return f"{self.name} is {self.value}"


@dataclass(frozen=True)
class Given(_OfOne):
    """A parameter is not empty."""

    def _holds(self, value: Any) -> bool:
        return value is not None and value not in ("", (), {})

    def __str__(self) -> str:
        return f"{self.name} is given"


@dataclass(frozen=True)
class Above(_OfOne):
    """A number is larger than a limit."""

    limit: int

    def _holds(self, value: Any) -> bool:
        return bool(value > self.limit)

    def __str__(self) -> str:
        return f"{self.name} is above {self.limit}"


@dataclass(frozen=True)
class Uses(_OfOne):
    """A part, chosen by its name, takes a certain input."""

    family: Family
    input: str

    def _holds(self, value: Any) -> bool:
        return self.input in self.family[value].uses

    def __str__(self) -> str:
        return f"{self.name} uses {self.input}"


@dataclass(frozen=True)
class Declares(_OfOne):
    """A part, chosen by its name, declares a trait."""

    family: Family
    trait: str

    def _holds(self, value: Any) -> bool:
        return bool(self.family[value].traits[self.trait])

    def __str__(self) -> str:
        return f"{self.name} is {self.trait}"


@dataclass(frozen=True)
class _OfTwo(Condition):
    first: Condition
    second: Condition

    @property
    def names(self) -> frozenset[str]:
        return self.first.names | self.second.names


@dataclass(frozen=True)
class _All(_OfTwo):
    def __call__(self, config: object) -> bool | None:
        values = (self.first(config), self.second(config))
        return False if False in values else None if None in values else True

    def __str__(self) -> str:
        return " and ".join(f"({each})" if isinstance(each, _Any) else str(each) for each in (self.first, self.second))


@dataclass(frozen=True)
class _Any(_OfTwo):
    def __call__(self, config: object) -> bool | None:
        values = (self.first(config), self.second(config))
        return True if True in values else None if None in values else False

    def __str__(self) -> str:
        return " or ".join(str(each) for each in (self.first, self.second))


@dataclass(frozen=True)
class _Not(Condition):
    negated: Condition

    def __call__(self, config: object) -> bool | None:
        value = self.negated(config)
        return None if value is None else not value

    def __str__(self) -> str:
        words = f"{self.negated}"
        return words.replace(" is ", " is not ", 1) if isinstance(self.negated, _OfOne) else f"not ({words})"

    @property
    def names(self) -> frozenset[str]:
        return self.negated.names
