"""Families of parts that are found by name: one part a file, and those that other packages add."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from sensai.errors import InputError, suggestion

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


@dataclass(frozen=True)
class Part:
    """One member of a family: a function that names what it uses as its parameters.

    Attributes:
        name: as users write it.
        help: one line for `--help`.
        function: gets what it names, by keyword.
        traits: what else it declares about itself, in words of its family.
    """

    name: str
    help: str
    function: Callable[..., Any]
    traits: frozenset[str] = frozenset()

    @cached_property
    def uses(self) -> frozenset[str]:
        """Return the names of the inputs that the function takes."""
        return frozenset(inspect.signature(self.function).parameters)

    def __call__(self, inputs: object) -> Any:
        """Call the function with those attributes of `inputs` that it names; the others are not even computed."""
        return self.function(**{name: getattr(inputs, name) for name in self.uses})


class Family:
    """The parts of one kind.

    Every module of the family's package registers one part. Other packages add theirs through an entry-point group: the
    entry point's name is the part's, its value the module that registers it. Their modules are imported when asked for.
    """

    def __init__(
        self, kind: str, package: str, group: str, inputs: Collection[str], traits: Collection[str] = ()
    ) -> None:
        """Describe a family.

        Args:
            kind: the word for one of its parts in messages, e.g. "grouping method".
            package: name of the package whose modules register the parts.
            group: entry-point group of other packages' parts.
            inputs: what a part's function may name as its parameters.
            traits: what a part may declare beside its inputs.
        """
        self.kind = kind
        self.inputs = tuple(inputs)
        self.traits = tuple(traits)
        self._package = package
        self._group = group
        self._parts: dict[str, Part] = {}
        self._own_imported = False

    def register(self, name: str, help: str, **traits: bool) -> Callable[[FunctionT], FunctionT]:
        """Return the decorator that adds a function as a part.

        Args:
            name: as users write it.
            help: one line for `--help`.
            traits: those of the family that the part has, e.g. `joint=True`.

        Raises:
            TypeError: the function takes something that the family does not give, the family has no such trait, or the name
                is taken.
        """
        if foreign := sorted(traits.keys() - set(self.traits)):
            raise TypeError(f"{self.kind} {name!r} declares {', '.join(foreign)}; allowed are {', '.join(self.traits)}")

        def add(function: FunctionT) -> FunctionT:
            part = Part(name, help, function, frozenset(trait for trait, has in traits.items() if has))
            if unknown := sorted(part.uses - set(self.inputs)):
                raise TypeError(
                    f"{self.kind} {name!r} takes {', '.join(unknown)}; allowed are {', '.join(sorted(self.inputs))}"
                )
            if name in self._parts:
                raise TypeError(f"there is a {self.kind} {name!r} already")
            self._parts[name] = part
            return function

        return add

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all parts in alphabetical order, without importing other packages."""
        self._import_own()
        return tuple(sorted({*self._parts, *self._foreign}))

    @property
    def help(self) -> str:
        """Return a line of this package's own parts, each with its help."""
        self._import_own()
        own = sorted(self._parts.keys() - self._foreign.keys())
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
        return {entry.name: entry for entry in entry_points(group=self._group)}

    def _load(self, entry: EntryPoint) -> None:
        where = f"{entry.value} of {entry.dist.name if entry.dist else 'an unknown package'}"
        try:
            entry.load()
        # Whatever another package raises while it is imported is its author's to mend.
        except Exception as error:
            raise InputError(f"{self.kind} {entry.name!r}: importing {where} failed ({error!r})") from error
        if entry.name not in self._parts:
            raise InputError(f"{self.kind} {entry.name!r}: {where} registers no such part")
