"""The difference of two accuracies on the same images, with its interval."""

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal


@dataclass(frozen=True)
class Difference:
    """The difference of two top-1 accuracies on the same images, as fractions.

    Attributes:
        difference: the estimate.
        low: lower bound of its interval.
        high: upper bound.
        images: N.
    """

    difference: float
    low: float
    high: float
    images: int

    def __neg__(self) -> "Difference":
        """Return the difference the other way round."""
        # 0 less a number: the negative of zero would be shown as -0.
        return Difference(0 - self.difference, 0 - self.high, 0 - self.low, self.images)

    @property
    def digits(self) -> int:
        """Return how many digits a bound in percentage points needs: one more where one would show it as zero."""
        return 2 if any(f"{abs(100 * each):.1f}" == "0.0" for each in (self.low, self.high)) else 1

    @property
    def is_gain(self) -> bool:
        """Return True if the interval lies above zero: the first accuracy is shown to be the larger one."""
        return self.low > 0

    @property
    def is_loss(self) -> bool:
        """Return True if the interval lies below zero."""
        return self.high < 0

    @property
    def is_undecided(self) -> bool:
        """Return True if zero lies within the interval, and the estimate is not surely zero."""
        return self.low <= 0 <= self.high and self.low < self.high

    @property
    def images_to_decide(self) -> float:
        """Return the number of images from which on an interval around this estimate would leave out zero.

        The bounds of an interval over N images lie a multiple of 1 / sqrt(N) from the estimate. The number is rounded up to
        two digits. It is infinite where the estimate is zero.
        """
        if not self.difference:
            return math.inf
        reach = self.difference - self.low if self.difference > 0 else self.high - self.difference
        needed = self.images * (reach / abs(self.difference)) ** 2
        return float(Context(prec=2, rounding=ROUND_CEILING).create_decimal(Decimal(needed)))
