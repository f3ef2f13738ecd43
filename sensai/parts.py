"""Find parts of a family by name: one part a file, and those that other packages add."""

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, TypeVar, cast

from sensai.errors import InputError, suggestion

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


@dataclass(frozen=True)
class Part:
    """One member of a family: a function that names what it uses as its parameters.

    Attributes:
        name: as users write it.
        help: one line for `--help`.
        function: gets its inputs by keyword.
        traits: trait -> value, one for each trait of the family.
    """

    name: str
    help: str
    function: Callable[..., Any]
    traits: Mapping[str, object] = field(default_factory=dict, hash=False)

    @cached_property
    def uses(self) -> frozenset[str]:
        """Return the names of the inputs that the function takes."""
        return frozenset(inspect.signature(self.function).parameters)

    def __call__(self, inputs: object) -> Any:
        """Call the function with the attributes of `inputs` that it names; others are not computed."""
        return self.function(**{name: getattr(inputs, name) for name in self.uses})


# It takes 50 ms to read the metadata of all installed packages, so the families share the result.
@lru_cache(maxsize=1)
def _installed(_path: tuple[str, ...]) -> EntryPoints:
    """Return the entry points of all packages on the import path."""
    # Python 3.11 returns another class here, which has the same `select`.
    return cast("EntryPoints", entry_points())


def _by_numbers(name: str) -> list[str | int]:
    """Return a sort key that puts resnet20 before resnet110."""
    return [int(piece) if piece.isdecimal() else piece for piece in re.split(r"(\d+)", name)]


class Family:
    """The parts of one kind.

    Every module of the family's package registers one part. Other packages add theirs through an entry-point group: the
    entry point's name is the part's, its value the module that registers it. Their modules are imported when asked for.
    """

    def __init__(
        self,
        kind: str,
        package: str,
        group: str,
        inputs: Collection[str],
        traits: Mapping[str, object] | None = None,
    ) -> None:
        """Describe a family.

        Args:
            kind: the word for one of its parts in messages, e.g. "grouping method".
            package: name of the package whose modules register the parts.
            group: entry-point group of other packages' parts.
            inputs: the names that a part's function may take as parameters.
            traits: trait -> its default; a part may declare other values.
        """
        self.kind = kind
        self.inputs = tuple(inputs)
        self.traits = dict(traits or {})
        self._package = package
        self._group = group
        self._parts: dict[str, Part] = {}
        self._own_imported = False

    def register(self, name: str, help: str, **traits: object) -> Callable[[FunctionT], FunctionT]:
        """Return the decorator that adds a function as a part.

        Args:
            name: as users write it.
            help: one line for `--help`.
            traits: those of the family's traits that differ from their defaults.

        Raises:
            TypeError: the function takes something that the family does not give, the family has no such trait, or the
                name is taken.
        """

        def add(function: FunctionT) -> FunctionT:
            part = Part(name, help, function, self.traits | traits)
            if unknown := sorted(part.uses - set(self.inputs)):
                raise TypeError(
                    f"{self.kind} {name!r} takes {', '.join(unknown)}; allowed are {', '.join(sorted(self.inputs))}"
                )
            if unknown := sorted(traits.keys() - self.traits.keys()):
                raise TypeError(
                    f"{self.kind} {name!r} declares {', '.join(unknown)}; allowed are {', '.join(sorted(self.traits))}"
                )
            if name in self._parts:
                raise TypeError(f"there is a {self.kind} {name!r} already")
            self._parts[name] = part
            return function

        return add

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all parts in alphabetical order, numbers by size, without importing other packages."""
        self._import_own()
        return tuple(sorted({*self._parts, *self._foreign}, key=_by_numbers))

    @property
    def help(self) -> str:
        """Return one line that lists this package's own parts with their help."""
        self._import_own()
        own = sorted(self._parts.keys() - self._foreign.keys(), key=_by_numbers)
        return "; ".join(f"{name}: {self._parts[name].help}" for name in own)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, name: str) -> Part:
        """Return a part by its name.

        Raises:
            InputError: there is none, or the package that adds it cannot be imported.
        """
        self._import_own()
        if name not in self._parts and name in self._foreign:
            self._load(self._foreign[name])
        if name not in self._parts:
            raise InputError(f"{name!r} is no {self.kind}; {suggestion(name, self.names)}")
        return self._parts[name]

    def _import_own(self) -> None:
        if self._own_imported:
            return
        self._own_imported = True
        for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__):
            importlib.import_module(f"{self._package}.{module.name}")

    @cached_property
    def _foreign(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in _installed(tuple(sys.path)).select(group=self._group)}

    def _load(self, entry: EntryPoint) -> None:
        where = f"{entry.value} of {entry.dist.name if entry.dist else 'an unknown package'}"
        try:
            entry.load()
        # Another package's import may raise anything; the message names the package.
        except Exception as error:
            raise InputError(f"{self.kind} {entry.name!r}: importing {where} failed ({error!r})") from error
        if entry.name not in self._parts:
            raise InputError(f"{self.kind} {entry.name!r}: {where} registers no such part")
