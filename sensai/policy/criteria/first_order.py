"""Channels whose removal changes the loss least go first."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sensai.policy.criteria import CRITERIA

if TYPE_CHECKING:
    import numpy as np


@CRITERIA.register("taylor", "the smallest first-order change of the loss first; takes a backward pass")
def first_order(sensitivity: Mapping[str, "np.ndarray"]) -> dict[str, "np.ndarray"]:
    """Return the first-order change of the loss, each site's scaled to an L2 norm of 1 (Molchanov et al. 2017)."""
    from sensai.policy.criterion_inputs import scaled

    return {site: scaled(values)[None] for site, values in sensitivity.items()}
