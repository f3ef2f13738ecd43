"""Random partitions. K classes, G groups."""

import numpy as np

from sensai.grouping.partitions import Group

_SAMPLES = 100


def sample_groups(num_classes: int, n_groups: int, seed: int) -> list[Group]:
    """Return a random partition into groups whose sizes differ by at most one; n_groups <= num_classes."""
    return _sampled(np.random.default_rng(seed), num_classes, n_groups)


def hundred_samples(num_classes: int, n_groups: int, seed: int) -> list[list[Group]]:
    """Return a hundred random partitions."""
    generator = np.random.default_rng(seed)
    return [_sampled(generator, num_classes, n_groups) for _ in range(_SAMPLES)]


def _sampled(generator: np.random.Generator, num_classes: int, n_groups: int) -> list[Group]:
    order = generator.permutation(num_classes)
    return [tuple(sorted(int(label) for label in part)) for part in np.array_split(order, n_groups)]
