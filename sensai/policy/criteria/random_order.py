"""Channels go in random order: the baseline that every other criterion must beat."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sensai.policy.criteria import CRITERIA

if TYPE_CHECKING:
    import numpy as np


@CRITERIA.register("random", "in random order, sampled by seed for each set of classes")
def random_order(channels: Mapping[str, int], classes: Sequence[int], seed: int) -> dict[str, "np.ndarray"]:
    """Return random keys that depend on the classes and the seed alone."""
    import numpy as np

    generator = np.random.default_rng([seed, *classes])
    return {site: generator.random((1, count)) for site, count in channels.items()}
