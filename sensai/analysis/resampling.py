"""Intervals and p-values by resampling: the bootstrap and the permutation test of comparisons and studies."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import bootstrap, permutation_test

RESAMPLES = 9999
# So many resamples are drawn at once, as their indices take 40 MB for 50,000 images.
_BATCH = 100
# So many of the drawn permutations lie in the tails if p equals the level. That gives p within a third.
_IN_THE_TAILS = 20


def resampled(samples: Sequence[np.ndarray], statistic: Callable[..., np.ndarray], seed: int) -> np.ndarray:
    """Return a statistic of samples that are drawn again with replacement, each sample by itself.

    Args:
        samples: each of length two or more.
        statistic: function of arrays (resamples, length), one a sample, and the keyword `axis`, which is -1; it returns
            (..., resamples).
        seed: of the resamples.

    Returns:
        float64 (..., RESAMPLES).
    """
    # The BCa interval would need N means of N images, each without one image. With many images it is almost the same.
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
    """Return the bounds that leave out equal shares of a statistic's resamples, float64 (RESAMPLES,), below and above."""
    low, high = np.quantile(distribution, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def permutation_p_value(values_a: np.ndarray, values_b: np.ndarray, level: float, seed: int) -> float:
    """Return the two-sided p-value of the difference of the means of two independent samples.

    It is exact where permutations are few.

    Args:
        values_a: float64 of any length; p is 1 if a sample is a single value, or if all values are equal.
        values_b: likewise.
        level: the p-value will be compared with it; a smaller level draws more permutations.
        seed: of the permutations.
    """
    together = np.concatenate([values_a, values_b])
    scale = np.ptp(together)
    if min(len(values_a), len(values_b)) < 2 or not scale:
        return 1.0

    def difference(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
        # Sums in another order differ in their last digits, and without rounding ties would be lost.
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
