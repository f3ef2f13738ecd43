"""Statistics of every channel, as sums by class. Sums of several classes, or of several shards of the data, are added.

APoZ, the average percentage of zeros of a channel, is the measure of Hu et al. 2016 ("Network Trimming"). K classes, C
channels of a site.
"""

import json
import operator
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from sensai.files import whole_file

_FIELDS = ("zeros", "magnitude", "elements", "sensitivity")
# The metadata key of the order of the sites, because safetensors does not keep it.
_SITES = "sites"


@dataclass(frozen=True)
class SiteStatistics:
    """Sums over all images of each class.

    Attributes:
        zeros: int64 (K, C), the number of activations a that are zero: |a| <= the zero threshold.
        magnitude: float64 (K, C), sum of |a|.
        elements: int64 (K,), the number of activations of one channel.
        sensitivity: float64 (K, C), sum over images of |sum over pixels of a x the gradient of the loss by a|; None if no
            backward pass was made.
    """

    zeros: np.ndarray
    magnitude: np.ndarray
    elements: np.ndarray
    sensitivity: np.ndarray | None = None

    def apoz(self, classes: Sequence[int]) -> np.ndarray:
        """Return float64 (C,): the share of zeros over the images of some classes; NaN where these have no images."""
        return self._share(self.zeros, classes)

    def mean(self, classes: Sequence[int]) -> np.ndarray:
        """Return float64 (C,): the mean of |activation| over the images of some classes; NaN where these have no images."""
        return self._share(self.magnitude, classes)

    def taylor(self, classes: Sequence[int]) -> np.ndarray:
        """Return float64 (C,): the first-order change of the loss without the channel, per activation.

        It is taken over the images of some classes, and NaN where these have no images. The criterion is that of Molchanov
        et al. 2017, "Pruning Convolutional Neural Networks for Resource Efficient Inference".

        Raises:
            ValueError: the statistics were read without a backward pass.
        """
        if self.sensitivity is None:
            raise ValueError("these statistics were read without a backward pass")
        return self._share(self.sensitivity, classes)

    def _share(self, sums: np.ndarray, classes: Sequence[int]) -> np.ndarray:
        rows = list(classes)
        with np.errstate(invalid="ignore"):
            return sums[rows].sum(axis=0) / self.elements[rows].sum()

    def __add__(self, other: "SiteStatistics") -> "SiteStatistics":
        sensitivity = None
        if self.sensitivity is not None and other.sensitivity is not None:
            sensitivity = self.sensitivity + other.sensitivity
        return SiteStatistics(
            self.zeros + other.zeros, self.magnitude + other.magnitude, self.elements + other.elements, sensitivity
        )


# Site name -> its statistics.
Statistics = dict[str, SiteStatistics]


def save_statistics(statistics: Statistics, path: Path) -> None:
    """Write statistics as safetensors with keys `<site>/<zeros|magnitude|elements|sensitivity>`.

    The last key exists only if there was a backward pass.

    Raises:
        StorageError: they cannot be written.
    """
    tensors = {
        f"{site}/{field}": np.ascontiguousarray(array)
        for site, values in statistics.items()
        for field in _FIELDS
        if (array := getattr(values, field)) is not None
    }
    with whole_file(path, sum(array.nbytes for array in tensors.values())) as temporary:
        save_file(tensors, temporary, metadata={_SITES: json.dumps(list(statistics))})


def load_statistics(*paths: Path) -> Statistics:
    """Return what `save_statistics` wrote; for several shards of the data, their sums.

    Shards are added site by site, so that only one set of statistics is in memory, whatever their number.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, framework="np")) for path in paths]
        sites = json.loads(files[0].metadata()[_SITES])
        return {site: reduce(operator.add, (_stored(file, site) for file in files)) for site in sites}


def _stored(file: Any, site: str) -> SiteStatistics:
    present = [field for field in _FIELDS if f"{site}/{field}" in file.keys()]  # noqa: SIM118 (no mapping)
    return SiteStatistics(**{field: file.get_tensor(f"{site}/{field}") for field in present})
