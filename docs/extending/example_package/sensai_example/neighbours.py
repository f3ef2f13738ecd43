"""Classes that follow each other share a member."""

from itertools import pairwise

from sensai.grouping.methods import METHODS


@METHODS.register("neighbours", "classes that follow each other in the order of their labels")
def neighbours(num_classes: int, n_groups: int) -> list[tuple[int, ...]]:
    """Return runs of labels whose lengths differ by at most one."""
    starts = [number * num_classes // n_groups for number in range(n_groups + 1)]
    return [tuple(range(start, end)) for start, end in pairwise(starts)]
