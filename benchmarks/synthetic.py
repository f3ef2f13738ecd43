"""What benchmarks take in place of measured statistics."""

import numpy as np

from sensai.activations import SiteStatistics, Statistics
from sensai.sites import SiteMap


def random_statistics(sites: SiteMap, num_classes: int) -> Statistics:
    """Statistics of every site as if 100 activations a class and channel had been read."""
    generator = np.random.default_rng(0)
    return {
        site.name: SiteStatistics(
            generator.integers(0, 100, (num_classes, site.channels)),
            generator.random((num_classes, site.channels)),
            np.full(num_classes, 100),
        )
        for site in sites.sites
    }
