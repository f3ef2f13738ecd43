"""Channels that are zero most often go first; ties are settled by position."""

from collections.abc import Mapping

import numpy as np

from sensai.policy.criteria import CRITERIA


@CRITERIA.register("most_zeros", "the highest share of zeros first, whatever the mean")
def most_zeros(apoz: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the negated APoZ as the only sort key, float64 (1, C) for each site."""
    return {site: -share[None] for site, share in apoz.items()}
