"""Costs of the members of groups, known from statistics before anything is pruned. K classes, S sites."""

from collections.abc import Sequence

import numpy as np

from sensai.activations import Statistics
from sensai.grouping.partitions import Group
from sensai.policy.counts import RatioCounts
from sensai.pruning import head_rows
from sensai.sites import SizePrediction

# FLOPs of the largest member, and of all members: the first decides, the second settles ties.
Cost = tuple[int, int]


class MemberCosts:
    """Predict the size of the member of any group, exactly as `ratio_plan` would prune it, in about a millisecond."""

    def __init__(self, statistics: Statistics, prediction: SizePrediction, ratio: float) -> None:
        """Store what the predictions need.

        Args:
            statistics: of every site of the prediction.
            prediction: sizes of members from the channels that they lack.
            ratio: share of all channels that a member loses, ranked globally by APoZ.
        """
        self.counts = RatioCounts(statistics, ratio)
        self._prediction = prediction
        self._num_classes = len(next(iter(statistics.values())).elements)
        names = list(statistics)
        self._order = np.array([names.index(name) for name in prediction.sites])

    def size(self, sums: np.ndarray, classes: int) -> tuple[int, int]:
        """Return parameters and FLOPs of a group's member.

        Args:
            sums: of its statistics, as by `counts`.
            classes: the number of its classes.
        """
        removed = self.counts.removed(sums)[self._order]
        params, flops = self._prediction.at(removed, head_rows(classes, self._num_classes))
        return int(params), int(flops)

    def sizes(self, groups: Sequence[Group]) -> list[tuple[int, int]]:
        """Return parameters and FLOPs of the member of each group."""
        return [self.size(self.counts.sums(group), len(group)) for group in groups]

    def flops(self, sums: np.ndarray, classes: int) -> int:
        """Return only the FLOPs of a group's member, see `size`."""
        return self.size(sums, classes)[1]

    def of_group(self, group: Sequence[int]) -> int:
        """Return the FLOPs of the member of some classes."""
        return self.flops(self.counts.sums(group), len(group))

    def of(self, groups: Sequence[Group]) -> Cost:
        """Return the cost of a partition."""
        flops = [self.of_group(group) for group in groups]
        return max(flops), sum(flops)
