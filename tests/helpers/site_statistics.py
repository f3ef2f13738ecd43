"""Statistics instead of measured ones: random, or of classes that use channels by known groups."""

from functools import lru_cache

import numpy as np

from sensai.activations import SiteStatistics, Statistics
from sensai.grouping.costs import MemberCosts
from sensai.grouping.grouping_inputs import GroupingInputs
from sensai.grouping.partitions import Group
from sensai.sites import SizePrediction, find_sites
from tests.helpers.networks import images_for, make

ELEMENTS = 100


def random_statistics(widths: dict[str, int], num_classes: int, seed: int = 0) -> Statistics:
    """Return statistics of sites of these widths, as if so many activations a class and channel had been read."""
    generator = np.random.default_rng(seed)
    return {
        site: SiteStatistics(
            generator.integers(0, ELEMENTS, (num_classes, width)),
            generator.random((num_classes, width)),
            np.full(num_classes, ELEMENTS),
        )
        for site, width in widths.items()
    }


def planted_statistics(widths: dict[str, int], groups: list[Group], seed: int = 0) -> Statistics:
    """Return statistics of classes that use only their group's channels: channel c of a site belongs to group c modulo G."""
    generator = np.random.default_rng(seed)
    num_classes = sum(map(len, groups))
    owner = np.empty(num_classes, np.int64)
    for number, group in enumerate(groups):
        owner[list(group)] = number
    statistics = {}
    for site, width in widths.items():
        used = owner[:, None] == np.arange(width) % len(groups)
        zeros = np.where(used, 10, ELEMENTS - 10) + generator.integers(-5, 6, used.shape)
        magnitude = np.where(used, 50.0, 1.0) * generator.uniform(0.8, 1.2, used.shape)
        statistics[site] = SiteStatistics(zeros, magnitude, np.full(num_classes, ELEMENTS))
    return statistics


def planted_groups(num_classes: int, n_groups: int, seed: int) -> list[Group]:
    """Return groups of equal size without regularity; n_groups divides num_classes."""
    order = np.random.default_rng(seed).permutation(num_classes)
    return sorted(tuple(sorted(part.tolist())) for part in np.split(order, n_groups))


@lru_cache(maxsize=40)
def prediction(num_classes: int) -> SizePrediction:
    """Return the size prediction of the small default network."""
    model, spec = make("small_cnn", num_classes=num_classes)
    return SizePrediction(model, find_sites(model, images_for(spec, 1)), spec.input_shape)


def small_widths() -> dict[str, int]:
    """Return site -> channels of the small default network."""
    model, spec = make("small_cnn")
    return {site.name: site.channels for site in find_sites(model, images_for(spec, 1)).sites}


def inputs_of(
    statistics: Statistics,
    n_groups: int = 1,
    seed: int = 0,
    ratio: float = 0.5,
    similarity: np.ndarray | None = None,
) -> GroupingInputs:
    """Return the inputs of the `group` stage for a small default network with these statistics; by default similarity is
    coupling.
    """
    num_classes = len(next(iter(statistics.values())).elements)
    costs = MemberCosts(statistics, prediction(num_classes), ratio)
    measure = costs.counts.coupling if similarity is None else lambda: similarity
    names = tuple(f"class{label}" for label in range(num_classes))
    return GroupingInputs(names, statistics, costs, measure, measure, n_groups=n_groups, seed=seed)
