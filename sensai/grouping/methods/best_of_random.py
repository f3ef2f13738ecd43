"""The cheapest of many random groupings: the baseline that a heuristic must beat."""

from typing import TYPE_CHECKING

from sensai.grouping.methods import METHODS

if TYPE_CHECKING:
    from sensai.grouping.costs import MemberCosts
    from sensai.grouping.partitions import Group


@METHODS.register("best_of_random", "the cheapest of a hundred sampled groupings", joinable="cheap")
def best_of_random(num_classes: int, costs: "MemberCosts", n_groups: int, seed: int) -> "list[Group]":
    """Return the one of least cost of a hundred random partitions."""
    from sensai.grouping.samples import hundred_samples

    return min(hundred_samples(num_classes, n_groups, seed), key=costs.of)
