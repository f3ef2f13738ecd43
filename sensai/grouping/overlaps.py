"""Groups that share classes: each is several parts of a partition. K classes, G parts and groups, R parts of a group.

The parts stand in a ring. Group k has the parts at the places k + d for each offset d, so every class is in R groups.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np

from sensai.errors import InputError
from sensai.grouping.costs import MemberCosts
from sensai.grouping.partitions import Group, membership

Design = Literal["ring", "balanced"]
# Returns what is to be small for an order of the parts, int64 (G,).
Score = Callable[[np.ndarray], Any]

# Most swaps to try where the order is scored by similarity, which takes 20 microseconds for 1000 parts; by FLOPs it takes
# about a millisecond a group.
_TRIALS, _COSTLY_TRIALS = 20_000, 300


def offsets_of(n_groups: int, overlap: int, design: Design) -> tuple[int, ...]:
    """Return the R offsets: for `ring` 0 to R - 1, for `balanced` those whose differences repeat least.

    With balanced offsets any two parts are together in about equally many groups. Where the differences are all different
    the groups are a cyclic difference design (Bose 1939), e.g. offsets 0, 1, 3 of seven groups.
    """
    if design == "ring":
        return tuple(range(overlap))
    offsets, counts = [0], np.zeros(n_groups, np.int64)
    while len(offsets) < overlap:
        free = [place for place in range(n_groups) if place not in offsets]
        new = min(free, key=lambda place: _repeats(counts + _differences(place, offsets, n_groups)))
        counts += _differences(new, offsets, n_groups)
        offsets.append(new)
    return tuple(offsets)


def _differences(place: int, offsets: Sequence[int], n_groups: int) -> np.ndarray:
    """Return int64 (G,): how often each difference occurs between a place and the offsets, in both directions."""
    steps = place - np.array(offsets)
    return np.bincount(np.concatenate([steps, -steps]) % n_groups, minlength=n_groups)


def _repeats(counts: np.ndarray) -> tuple[int, int]:
    """Return the most repeats of one difference, and how many differences repeat."""
    return int(counts.max()), int((counts > 1).sum())


class Ring:
    """The places of the parts of a partition, and the groups that an order of the parts gives."""

    def __init__(self, parts: Sequence[Group], overlap: int, design: Design) -> None:
        """Lay out the places.

        Args:
            parts: groups of a partition, whose sizes differ by at most one.
            overlap: R, below G.
            design: of the offsets.

        Raises:
            InputError: R is not below G, or the sizes of groups would differ by more than one.
        """
        count, classes = len(parts), sum(map(len, parts))
        if overlap >= count:
            raise InputError(f"overlap={overlap}: must be below the number of groups, {count}")
        self.parts = list(parts)
        self.offsets = offsets_of(count, overlap, design)
        ends = np.arange(count + 1) * classes // count
        # The larger parts lie as evenly as they can, so that any R places in a row have almost the same number of classes.
        self.sizes = np.diff(ends)
        of_groups = sum(np.roll(self.sizes, -offset) for offset in self.offsets)
        if np.ptp(of_groups) > 1:
            raise InputError(
                f"overlap_design={design!r}: {classes} classes in {count} groups would give members whose numbers of classes "
                "differ by more than one; use overlap_design=ring"
            )

    def filled(self, preferred: Sequence[int]) -> np.ndarray:
        """Return an order of the parts, int64 (G,): each place takes the next preferred part of its size."""
        left = {
            size: [part for part in preferred if len(self.parts[part]) == size] for size in set(self.sizes.tolist())
        }
        return np.array([left[size].pop(0) for size in self.sizes.tolist()])

    def groups(self, order: np.ndarray) -> list[Group]:
        """Return the groups, each in ascending order."""
        places = np.arange(len(order))
        rows = np.stack([order[(places + offset) % len(order)] for offset in self.offsets], axis=1)
        return [tuple(sorted(label for part in row for label in self.parts[part])) for row in rows.tolist()]

    def by_similarity(self, similarity: np.ndarray) -> Score:
        """Return the score of orders whose groups have the largest sum of similarities: float64 (K, K), symmetric."""
        member = membership(self.parts, len(similarity)).astype(np.float64)
        between = member.T @ similarity @ member
        distances = [second - first for first, second in combinations(self.offsets, 2)]

        def score(order: np.ndarray) -> float:
            return -float(sum(between[order, np.roll(order, -distance)].sum() for distance in distances))

        return score

    def by_cost(self, costs: MemberCosts) -> Score:
        """Return the score of orders whose largest member has the fewest FLOPs, then of those with the fewest in all."""
        return lambda order: costs.of(self.groups(order))

    def descended(self, order: np.ndarray, score: Score, generator: np.random.Generator, trials: int) -> np.ndarray:
        """Return the order after every tried swap of two parts that lowered the score, until none does or trials end."""
        first, second = np.triu_indices(len(order), k=1)
        swappable = self.sizes[first] == self.sizes[second]
        pairs = np.stack([first[swappable], second[swappable]], axis=1)
        order, best, tried, improved = order.copy(), score(order), 0, True
        while improved and tried < trials:
            improved = False
            for pair in generator.permutation(pairs)[: trials - tried]:
                tried += 1
                order[pair] = order[pair[::-1]]
                if (now := score(order)) < best:
                    best, improved = now, True
                else:
                    order[pair] = order[pair[::-1]]
        return order


def similar_ring(ring: Ring, similarity: np.ndarray, preferred: Sequence[int]) -> list[Group]:
    """Return the groups of an order in which parts of one group are similar, starting from a preferred order.

    The swaps are tried in the same order whatever the user's seed, because the method that made the parts may not use it.
    """
    generator = np.random.default_rng(0)
    order = ring.descended(ring.filled(preferred), ring.by_similarity(similarity), generator, _TRIALS)
    return ring.groups(order)


def cheap_ring(ring: Ring, costs: MemberCosts, preferred: Sequence[int], seed: int) -> list[Group]:
    """Return the groups of an order whose largest member has few FLOPs, starting from a preferred order."""
    generator = np.random.default_rng(seed)
    return ring.groups(ring.descended(ring.filled(preferred), ring.by_cost(costs), generator, _COSTLY_TRIALS))
