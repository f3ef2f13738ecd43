"""The groups of a run of `group`, as its groups.json has them."""

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Grouped:
    """The groups of classes that share a member. K classes.

    Attributes:
        class_names: (K,), names of the classes of the data set.
        groups: the classes of each member; every class is in exactly one group.
        order: (K,), the classes as a dendrogram orders them.
    """

    class_names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]

    @classmethod
    def from_json(cls, text: str | bytes) -> "Grouped":
        """Read the content of a groups.json.

        Raises:
            ValueError: the text is not JSON, or the groups are no partition of the classes.
            LookupError: a part is missing.
            TypeError: a part is of another type.
            RecursionError: the text is nested thousands of levels deep.
        """
        content = json.loads(text)
        names, groups = tuple(content["class_names"]), tuple(map(tuple, content["groups"]))
        # Runs of the stage before its version 3 did not log the order.
        order = tuple(content.get("order", range(len(names))))
        if not all(isinstance(name, str) for name in names):
            raise TypeError("a class name is no text")
        for what, labels in (("groups", [label for group in groups for label in group]), ("order", [*order])):
            # Types are compared too, because True and 1.0 equal 1.
            if {*map(type, labels)} - {int} or sorted(labels) != [*range(len(names))] or () in groups:
                raise ValueError(f"{what} must have each of the {len(names)} classes once")
        return cls(names, groups, order)
