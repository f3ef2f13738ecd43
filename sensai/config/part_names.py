"""Validators of parameters that name a part of a family; their messages list the names."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sensai.config.bounds import check_path
from sensai.errors import suggestion
from sensai.parts import Family
from sensai.plugins import REFERENCE

_OWN = "path/to/file.py:factory or package.module:factory"


@dataclass(frozen=True)
class PartName:
    """The name of a part.

    Attributes:
        family: its parts.
        more: further names that are allowed.
    """

    family: Family
    more: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return all names that are allowed."""
        return (*self.more, *self.family.names)

    def __call__(self, value: str) -> str:
        """Return the name.

        Raises:
            ValueError: there is no such part.
        """
        if value not in self.names:
            raise ValueError(f"is no {self.family.kind}; {suggestion(value, self.names)}")
        return value


@dataclass(frozen=True)
class PartOrCode:
    """The name of a part, or a function of the user's.

    Attributes:
        family: its parts.
        more: forms of further names, for the message.
        elsewhere: names of the same things in other packages -> how they are called here.
    """

    family: Family
    more: str = ""
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the parts."""
        return self.family.names

    def __call__(self, value: str) -> str:
        """Return the name.

        Raises:
            ValueError: it is neither a part nor the form of a function's name.
        """
        if value not in self.names and not REFERENCE.fullmatch(value):
            others = f"{self.more}, {_OWN}" if self.more else _OWN
            raise ValueError(f"is no {self.family.kind} (or {others}); {suggestion(value, self.names, self.elsewhere)}")
        check_path(value.rpartition(":")[0])
        return value
