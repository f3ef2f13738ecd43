"""The groups of a run of `group`, as its groups.json has them."""

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Grouped:
    """The groups of classes that share a member. K classes.

    Attributes:
        class_names: (K,), names of the classes of the data set.
        groups: the classes of each member; every class is in at least one group.
        order: (K,), the classes as a dendrogram orders them.
    """

    class_names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]

    @classmethod
    def from_json(cls, text: str | bytes) -> "Grouped":
        """Read the content of a groups.json.

        Raises:
            ValueError: the text is not JSON, a class is in no group, or twice in one.
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
        every = [*range(len(names))]
        # Types are compared too, because True and 1.0 equal 1.
        if any({*map(type, labels)} - {int} for labels in (*groups, order)):
            raise ValueError("a class is no integer")
        if sorted(order) != every:
            raise ValueError(f"order must have each of the {len(names)} classes once")
        if sorted({label for group in groups for label in group}) != every or any(
            not group or len({*group}) < len(group) for group in groups
        ):
            raise ValueError(f"groups must have each of the {len(names)} classes, none twice in one group")
        return cls(names, groups, order)
