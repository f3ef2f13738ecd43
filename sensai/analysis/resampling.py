"""Intervals and p-values by drawing again: the bootstrap and the permutations of comparisons and studies."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import bootstrap, permutation_test

RESAMPLES = 9999
# Resamples drawn at once: 40 MB of indices for 50,000 images.
_BATCH = 100
# So many random permutations are as far out as a p-value that is just small enough: enough to know it within a third.
_IN_THE_TAILS = 20


def resampled(samples: Sequence[np.ndarray], statistic: Callable[..., np.ndarray], seed: int) -> np.ndarray:
    """A statistic of samples that are drawn again with replacement, each sample by itself.

    Args:
        samples: of any length of two or more each.
        statistic: of arrays (resamples, length), one a sample, and the keyword `axis`, -1; it gives (..., resamples).
        seed: of the resamples.

    Returns:
        float64 (..., RESAMPLES).
    """
    # The BCa interval would leave out each image once, N means of N images; of many images it is hardly another one.
    return bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        batch=_BATCH,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).bootstrap_distribution


def percentile_interval(distribution: np.ndarray, confidence: float) -> tuple[float, float]:
    """The bounds that leave out as much of a statistic's resamples, float64 (RESAMPLES,), below as above."""
    low, high = np.quantile(distribution, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def permutation_p_value(values_a: np.ndarray, values_b: np.ndarray, level: float, seed: int) -> float:
    """Of the difference of the means of two independent samples, two-sided; exact where permutations are few.

    Args:
        values_a: float64 of any length; of a single value, or of values that are all alike, p is 1.
        values_b: likewise.
        level: that the p-value will be compared with; the smaller, the more permutations are drawn.
        seed: of the permutations.
    """
    together = np.concatenate([values_a, values_b])
    scale = np.ptp(together)
    if min(len(values_a), len(values_b)) < 2 or not scale:
        return 1.0

    def difference(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
        # Sums in another order differ in their last digits, and ties would no longer be ties.
        return np.round((first.mean(axis) - second.mean(axis)) / scale, 9)

    return float(
        permutation_test(
            (values_a - together[0], values_b - together[0]),
            difference,
            permutation_type="independent",
            vectorized=True,
            n_resamples=max(RESAMPLES, math.ceil(_IN_THE_TAILS / level)),
            alternative="two-sided",
            rng=np.random.default_rng(seed),
        ).pvalue
    )
