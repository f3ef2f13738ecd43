"""One member of all classes, and members for those that the base model confuses."""

from typing import TYPE_CHECKING

from sensai.grouping.methods import METHODS

if TYPE_CHECKING:
    import numpy as np

    from sensai.grouping.partitions import Group


@METHODS.register("specialists", "one member of all classes, the others of classes that are confused", joinable=None)
def specialists(num_classes: int, confusion: "np.ndarray", n_groups: int) -> "list[Group]":
    """Return all classes, then the n_groups - 1 most confused parts of a partition of similar classes.

    A part has about the square root of K classes. Where there are fewer parts, there are fewer members.
    """
    import numpy as np

    from sensai.grouping.swaps import most_similar_groups

    everyone: Group = tuple(range(num_classes))
    if n_groups == 1 or num_classes < 3:
        return [everyone]
    parts = most_similar_groups(confusion, max(round(np.sqrt(num_classes)), 2))
    within = [confusion[np.ix_(part, part)].sum() - confusion[list(part), list(part)].sum() for part in parts]
    # A part of one class is confused with nothing.
    ranked = [parts[place] for place in np.argsort(within, kind="stable")[::-1] if len(parts[place]) > 1]
    return [everyone, *sorted(ranked[: n_groups - 1])]
