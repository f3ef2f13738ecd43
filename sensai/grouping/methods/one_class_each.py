"""A group for every class."""

from typing import TYPE_CHECKING

from sensai.grouping.methods import METHODS

if TYPE_CHECKING:
    from sensai.grouping.partitions import Group


@METHODS.register("singletons", "one class a member")
def one_class_each(num_classes: int) -> "list[Group]":
    """Return a group for every class: binary members."""
    from sensai.grouping.partitions import singletons

    return singletons(num_classes)
