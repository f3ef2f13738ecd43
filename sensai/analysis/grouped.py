"""The groups of a run of `group`, as its groups.json has them."""

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Grouped:
    """Which classes share a member. K classes.

    Attributes:
        class_names: (K,), of the data set.
        groups: the classes of each member; every class is in one of them.
        order: (K,), the classes as a dendrogram orders them.
    """

    class_names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]

    @classmethod
    def from_json(cls, text: str | bytes) -> "Grouped":
        """Return what a groups.json says.

        Raises:
            ValueError: it is no JSON, or its groups are no partition of its classes.
            LookupError: a part is missing.
            TypeError: a part is of another type.
            RecursionError: it is nested thousands of levels deep.
        """
        content = json.loads(text)
        names, groups = tuple(content["class_names"]), tuple(map(tuple, content["groups"]))
        # Before version 3 of the stage the order was not logged.
        order = tuple(content.get("order", range(len(names))))
        if not all(isinstance(name, str) for name in names):
            raise TypeError("a class name is no text")
        for what, labels in (("groups", [label for group in groups for label in group]), ("order", [*order])):
            # True is an integer, and 1.0 equals one.
            if {*map(type, labels)} - {int} or sorted(labels) != [*range(len(names))] or () in groups:
                raise ValueError(f"{what} must have each of the {len(names)} classes once")
        return cls(names, groups, order)
