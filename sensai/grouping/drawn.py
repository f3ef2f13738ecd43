"""Groups that are drawn, and the cheapest of many that are. K classes, G groups."""

import numpy as np

from sensai.grouping.evidence import Evidence
from sensai.grouping.partitions import Group

# Partitions of which the cheapest is kept.
_DRAWS = 100


def random_groups(num_classes: int, n_groups: int, seed: int) -> list[Group]:
    """A random partition into groups whose sizes differ by at most one; n_groups <= num_classes."""
    return _drawn(np.random.default_rng(seed), num_classes, n_groups)


def _drawn(generator: np.random.Generator, num_classes: int, n_groups: int) -> list[Group]:
    order = generator.permutation(num_classes)
    return [tuple(sorted(int(label) for label in part)) for part in np.array_split(order, n_groups)]


def drawn(evidence: Evidence, n_groups: int, seed: int) -> list[Group]:
    """A random partition; what else is known does not matter."""
    return random_groups(evidence.num_classes, n_groups, seed)


def best_drawn(evidence: Evidence, n_groups: int, seed: int) -> list[Group]:
    """Of a hundred random partitions the one of least cost: what a heuristic must beat."""
    return min(many(evidence.num_classes, n_groups, seed), key=evidence.costs.of)


def many(num_classes: int, n_groups: int, seed: int) -> list[list[Group]]:
    """A hundred random partitions."""
    generator = np.random.default_rng(seed)
    return [_drawn(generator, num_classes, n_groups) for _ in range(_DRAWS)]
