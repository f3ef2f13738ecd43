"""Intervals and p-values by resampling: the bootstrap and the permutation test of comparisons and studies."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import bootstrap, permutation_test

from sensai.evaluation.accuracy_difference import Difference

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


def paired_difference(right_a: np.ndarray, right_b: np.ndarray, confidence: float = 0.95, seed: int = 0) -> Difference:
    """Return the difference of two accuracies with the percentile interval of a bootstrap over images.

    Both answers to an image are drawn together. If the difference is the same on all images, as between a run and itself,
    resamples have no spread and the interval is the estimate.

    Args:
        right_a: bool (N,), True where the first answered rightly.
        right_b: bool (N,), likewise of the second.
        confidence: of the interval, in (0, 1).
        seed: of the resamples.
    """
    differences = right_a.astype(np.int8) - right_b.astype(np.int8)
    estimate = float(differences.mean())
    low = high = estimate
    # Without spread there is nothing to draw. A single image never has any, and scipy would refuse it.
    if np.ptp(differences):
        low, high = percentile_interval(resampled((differences,), np.mean, seed), confidence)
    return Difference(estimate, low, high, len(differences))


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
