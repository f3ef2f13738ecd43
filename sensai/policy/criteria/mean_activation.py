"""Channels with small activations go first."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sensai.policy.criteria import CRITERIA

if TYPE_CHECKING:
    import numpy as np


@CRITERIA.register("mean", "the smallest mean activation first")
def mean_activation(mean: Mapping[str, "np.ndarray"]) -> dict[str, "np.ndarray"]:
    """Return the mean absolute activation."""
    return {site: values[None] for site, values in mean.items()}
