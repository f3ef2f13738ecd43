"""Channels that are zero most often go first."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sensai.policy.criteria import CRITERIA

if TYPE_CHECKING:
    import numpy as np


@CRITERIA.register("apoz", "the highest share of zeros first, ties by the smaller mean")
def zeros_then_mean(apoz: Mapping[str, "np.ndarray"], mean: Mapping[str, "np.ndarray"]) -> dict[str, "np.ndarray"]:
    """Return the negated APoZ, then the mean (Hu et al. 2016)."""
    import numpy as np

    return {site: np.stack([-apoz[site], mean[site]]) for site in apoz}
