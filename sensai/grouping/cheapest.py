"""Groups whose largest member has the fewest predicted FLOPs. K classes, G groups."""

from collections.abc import Iterator
from functools import cache
from itertools import combinations
from math import factorial

import numpy as np

from sensai.grouping.costs import Cost
from sensai.grouping.descent import descended
from sensai.grouping.drawn import many
from sensai.grouping.evidence import Evidence
from sensai.grouping.partitions import Group
from sensai.grouping.similarities import class_similarity
from sensai.grouping.swaps import least_similar_groups, most_similar_groups

# Where there are no more partitions than this, all are tried: always for up to ten classes.
MOST_PARTITIONS = 10_000
# Swaps that are tried: about a millisecond each for a network as wide as ResNet-50.
_TRIALS = 2000


def min_flops(evidence: Evidence, n_groups: int, seed: int) -> list[Group]:
    """The cheapest of all partitions where there are few; else swaps from the cheapest of a hundred that are drawn (so
    that it never is dearer than these), the most similar and the least similar, until no swap helps or enough are tried.
    """
    if number_of_partitions(evidence.num_classes, n_groups) <= MOST_PARTITIONS:
        return _cheapest_of_all(evidence, n_groups)
    similarity = class_similarity(evidence.statistics)
    starts = [
        most_similar_groups(similarity, n_groups),
        least_similar_groups(similarity, n_groups),
        *many(evidence.num_classes, n_groups, seed),
    ]
    start = min(starts, key=evidence.costs.of)
    return descended(start, evidence.costs, np.random.default_rng(seed), _TRIALS)


def sizes_of(num_classes: int, n_groups: int) -> dict[int, int]:
    """Size of groups -> how many have it."""
    least, larger = divmod(num_classes, n_groups)
    return {least: n_groups - larger, least + 1: larger}


def number_of_partitions(num_classes: int, n_groups: int) -> int:
    """How many partitions there are."""
    count = factorial(num_classes)
    for size, groups in sizes_of(num_classes, n_groups).items():
        count //= factorial(size) ** groups * factorial(groups)
    return count


def _cheapest_of_all(evidence: Evidence, n_groups: int) -> list[Group]:
    flops_of = cache(evidence.costs.of_group)

    def cost(groups: list[Group]) -> Cost:
        flops = [flops_of(group) for group in groups]
        return max(flops), sum(flops)

    every = partitions(tuple(range(evidence.num_classes)), sizes_of(evidence.num_classes, n_groups))
    return min(every, key=cost)


def partitions(classes: tuple[int, ...], sizes: dict[int, int]) -> Iterator[list[Group]]:
    """Every partition into groups of these sizes, once: the first class chooses its companions, then the others."""
    if not classes:
        yield []
        return
    first, *others = classes
    for size in (size for size, groups in sizes.items() if groups):
        for companions in combinations(others, size - 1):
            left = tuple(label for label in others if label not in companions)
            for rest in partitions(left, {**sizes, size: sizes[size] - 1}):
                yield [(first, *companions), *rest]
