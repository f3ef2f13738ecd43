"""Numbers of channels that ratio plans remove, without making the plans.

Searches that weigh thousands of groups need the number for each site. The coupling needs the number that two classes have
in common. K classes, S sites, C channels of all sites, one site's after the other's.
"""

from collections.abc import Sequence

import numpy as np

from sensai.activations import Statistics


class RatioCounts:
    """Predict the counts of `ratio_plan` by APoZ, ranked globally.

    The input is sums of statistics, so a swap of two classes only adds and subtracts. Nothing is sorted: a selection finds
    the last channel that goes, and only ties with it are ranked by their means.
    """

    def __init__(self, statistics: Statistics, ratio: float) -> None:
        """Arrange the statistics side by side.

        Args:
            statistics: of every site.
            ratio: as of `ratio_plan`.
        """
        sites = list(statistics.values())
        widths = [site.zeros.shape[1] for site in sites]
        self._channels, self._sites = sum(widths), len(sites)
        self._owner = np.repeat(np.arange(len(sites)), widths)
        self._starts = np.concatenate([[0], np.cumsum(widths)[:-1]])
        # Every site keeps at least one channel.
        self._wanted = min(round(ratio * self._channels), self._channels - self._sites)
        # Zeros and elements are whole numbers below 2**53, so floats add them exactly.
        self._sums = np.empty((len(sites[0].elements), 2 * self._channels + self._sites))
        for row, sums in enumerate(self._sums):
            np.concatenate([site.zeros[row] for site in sites], out=sums[: self._channels])
            np.concatenate([site.magnitude[row] for site in sites], out=sums[self._channels : -self._sites])
            sums[-self._sites :] = [site.elements[row] for site in sites]

    def sums(self, classes: Sequence[int]) -> np.ndarray:
        """Return float64 (2 C + S,): zeros and magnitudes of every channel and elements of every site, over some classes."""
        total = self._sums[classes[0]].copy()
        for label in classes[1:]:
            total += self._sums[label]
        return total

    def swapped(self, sums: np.ndarray, out: int, into: int) -> np.ndarray:
        """Return the sums of a group after it exchanged one class for another.

        Magnitudes are rounded once more than in `sums`.
        """
        swapped = sums - self._sums[out]
        swapped += self._sums[into]
        return swapped

    def coupling(self) -> np.ndarray:
        """Return int64 (K, K): for two classes the number of channels that both of their plans, as binary members, remove."""
        # Floats are exact for counts below 2**24, and BLAS multiplies only floats; without it a thousand classes take long.
        removed = np.zeros((len(self._sums), self._channels), np.float32)
        for row, sums in zip(removed, self._sums, strict=True):
            row[self._removed_channels(sums)] = 1
        return (removed @ removed.T).astype(np.int64)

    def removed(self, sums: np.ndarray) -> np.ndarray:
        """Return int64 (S,): how many channels `ratio_plan` removes from each site, for classes with these sums."""
        return np.bincount(self._owner[self._removed_channels(sums)], minlength=self._sites)

    def _removed_channels(self, sums: np.ndarray) -> np.ndarray:
        """Return the channels that are removed, int64, in no order."""
        elements = sums[-self._sites :][self._owner]
        with np.errstate(invalid="ignore"):
            first = -sums[: self._channels] / elements
            second = sums[self._channels : -self._sites] / elements
        for keys in (first, second):
            keys[np.isnan(keys)] = np.inf
        if not self._wanted:
            return np.zeros(0, np.int64)
        free = np.ones(self._channels, bool)
        free[self._last(first, second)] = False
        places = np.flatnonzero(free)
        ranked = first[places]
        threshold = np.partition(ranked, self._wanted - 1)[self._wanted - 1]
        gone = places[ranked < threshold]
        tied = places[ranked == threshold]
        # A stable sort keeps the order of equal means, so that as in `ratio_plan` the first site's first channel goes
        # first.
        tied = tied[np.argsort(second[tied], kind="stable")[: self._wanted - len(gone)]]
        return np.concatenate([gone, tied])

    def _last(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return int64 (S,): the channel of each site that is removed last."""
        last = first == np.maximum.reduceat(first, self._starts)[self._owner]
        means = np.where(last, second, -np.inf)
        last &= means == np.maximum.reduceat(means, self._starts)[self._owner]
        return np.maximum.reduceat(np.where(last, np.arange(self._channels), -1), self._starts)
