"""The cheapest of all partitions, if there are few. K classes, G groups."""

from collections.abc import Iterator
from functools import cache
from itertools import combinations
from math import factorial

from sensai.grouping.costs import Cost, MemberCosts
from sensai.grouping.partitions import Group

# The most partitions that are all tried; up to ten classes never have more.
MOST_PARTITIONS = 10_000


def sizes_of(num_classes: int, n_groups: int) -> dict[int, int]:
    """Return the size of groups -> the number of groups of that size."""
    least, larger = divmod(num_classes, n_groups)
    return {least: n_groups - larger, least + 1: larger}


def number_of_partitions(num_classes: int, n_groups: int) -> int:
    """Return the number of partitions into groups whose sizes differ by at most one."""
    count = factorial(num_classes)
    for size, groups in sizes_of(num_classes, n_groups).items():
        count //= factorial(size) ** groups * factorial(groups)
    return count


def cheapest_of_all(num_classes: int, costs: MemberCosts, n_groups: int) -> list[Group]:
    """Return the partition whose largest member has the fewest FLOPs, and of several the one with the fewest in all."""
    flops_of = cache(costs.of_group)

    def cost(groups: list[Group]) -> Cost:
        flops = [flops_of(group) for group in groups]
        return max(flops), sum(flops)

    every = partitions(tuple(range(num_classes)), sizes_of(num_classes, n_groups))
    return min(every, key=cost)


def partitions(classes: tuple[int, ...], sizes: dict[int, int]) -> Iterator[list[Group]]:
    """Yield every partition into groups of these sizes once.

    The companions of the first class are chosen first, then the other groups.
    """
    if not classes:
        yield []
        return
    first, *others = classes
    for size in (size for size, groups in sizes.items() if groups):
        for companions in combinations(others, size - 1):
            left = tuple(label for label in others if label not in companions)
            for rest in partitions(left, {**sizes, size: sizes[size] - 1}):
                yield [(first, *companions), *rest]
