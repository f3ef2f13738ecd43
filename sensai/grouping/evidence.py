"""What groups are formed by."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sensai.activations import Statistics
from sensai.grouping.costs import MemberCosts
from sensai.grouping.partitions import Group


@dataclass(frozen=True)
class Evidence:
    """What is known of the classes.

    Attributes:
        num_classes: K.
        statistics: of every site.
        costs: what members would cost.
        similarity: gives (K, K), symmetric, the larger the more alike; the diagonal means nothing. It may take
            time, and not every method asks.
    """

    num_classes: int
    statistics: Statistics
    costs: MemberCosts
    similarity: Callable[[], np.ndarray]


# Of the evidence, the number of groups G with 1 < G < K, and the seed of what is drawn: a partition into G groups whose sizes
# differ by at most one, the same for the same arguments.
Method = Callable[[Evidence, int, int], list[Group]]
