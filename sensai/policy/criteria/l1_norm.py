"""Channels of small filters go first, for all classes alike."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sensai.policy.criteria import CRITERIA

if TYPE_CHECKING:
    import numpy as np


@CRITERIA.register("l1", "the smallest L1 norm of the filter first")
def l1_norm(filter_norms: Mapping[str, "np.ndarray"]) -> dict[str, "np.ndarray"]:
    """Return the sum of the filter's absolute weights (Li et al. 2017, "Pruning Filters for Efficient ConvNets").

    Each site's are scaled to an L2 norm of 1, since filters of different sizes have different sums.
    """
    from sensai.policy.criterion_inputs import scaled

    return {site: scaled(values)[None] for site, values in filter_norms.items()}
