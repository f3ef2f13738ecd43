"""Swaps of two classes that make a partition cheaper. K classes, G groups."""

from collections.abc import Iterator, Sequence

import numpy as np

from sensai.grouping.costs import Cost, MemberCosts
from sensai.grouping.partitions import Group, groups_of, labels_of


def descended(groups: Sequence[Group], costs: MemberCosts, generator: np.random.Generator, trials: int) -> list[Group]:
    """Return the partition after every tried swap that made it cheaper, until none does or `trials` are made.

    The end depends on the number of trials and not on time, so that the same arguments give the same groups.
    """
    partition, tried = _Partition(groups, costs), 0
    while tried < trials:
        for one, other in partition.pairs(generator):
            tried += 1
            if partition.swap(one, other) or tried == trials:
                break
        else:
            break
    return groups_of(partition.labels)


class _Partition:
    """A partition that changes by swaps, with the sums of statistics and the FLOPs of its members."""

    def __init__(self, groups: Sequence[Group], costs: MemberCosts) -> None:
        self.labels = labels_of(groups)
        self._costs = costs
        self._sizes = [len(group) for group in groups]
        self._sums = [costs.counts.sums(group) for group in groups]
        self._flops = [costs.flops(*member) for member in zip(self._sums, self._sizes, strict=True)]

    def pairs(self, generator: np.random.Generator) -> Iterator[tuple[int, int]]:
        """Yield all pairs of classes in two groups in random order, those with a class in the largest member first."""
        largest = self.labels == np.argmax(self._flops)
        inside, outside = np.flatnonzero(largest), np.flatnonzero(~largest)
        yield from _shuffled(np.repeat(inside, len(outside)), np.tile(outside, len(inside)), generator)
        first, second = np.triu_indices(len(outside), k=1)
        apart = self.labels[outside[first]] != self.labels[outside[second]]
        yield from _shuffled(outside[first[apart]], outside[second[apart]], generator)

    def swap(self, one: int, other: int) -> bool:
        """Swap two classes if that makes the partition cheaper; return True if it did."""
        sides = [(int(self.labels[one]), one, other), (int(self.labels[other]), other, one)]
        before, flops = _cost(self._flops), self._flops.copy()
        for group, leaves, comes in sides:
            sums = self._costs.counts.swapped(self._sums[group], leaves, comes)
            flops[group] = self._costs.flops(sums, self._sizes[group])
            if flops[group] > before[0]:
                return False
        if _cost(flops) >= before:
            return False
        self.labels[[one, other]] = self.labels[[other, one]]
        self._flops = flops
        for group, _, _ in sides:
            # The sums are computed anew, so that rounding errors do not add up.
            self._sums[group] = self._costs.counts.sums(np.flatnonzero(self.labels == group).tolist())
        return True


def _cost(flops: list[int]) -> Cost:
    return max(flops), sum(flops)


def _shuffled(first: np.ndarray, second: np.ndarray, generator: np.random.Generator) -> Iterator[tuple[int, int]]:
    for place in generator.permutation(len(first)):
        yield int(first[place]), int(second[place])
