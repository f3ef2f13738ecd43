"""Groups whose largest member has the fewest predicted FLOPs."""

from typing import TYPE_CHECKING

from sensai.grouping.methods import METHODS

if TYPE_CHECKING:
    from sensai.activations import Statistics
    from sensai.grouping.costs import MemberCosts
    from sensai.grouping.partitions import Group

# Most swaps to try; one takes about a millisecond for a network as wide as ResNet-50.
_TRIALS = 2000


@METHODS.register("min_flops", "the fewest FLOPs of the largest member, then of all", joinable="cheap")
def min_flops(
    num_classes: int, statistics: "Statistics", costs: "MemberCosts", n_groups: int, seed: int
) -> "list[Group]":
    """Return the cheapest of all partitions if there are few, else the result of a descent by swaps.

    The descent starts from the cheapest of a hundred random partitions, the most similar and the least similar partition.
    So the result is never more expensive than these.
    """
    import numpy as np

    from sensai.grouping.all_partitions import MOST_PARTITIONS, cheapest_of_all, number_of_partitions
    from sensai.grouping.descent import descended
    from sensai.grouping.samples import hundred_samples
    from sensai.grouping.similarities import class_similarity
    from sensai.grouping.swaps import least_similar_groups, most_similar_groups

    if number_of_partitions(num_classes, n_groups) <= MOST_PARTITIONS:
        return cheapest_of_all(num_classes, costs, n_groups)
    similarity = class_similarity(statistics)
    starts = [
        most_similar_groups(similarity, n_groups),
        least_similar_groups(similarity, n_groups),
        *hundred_samples(num_classes, n_groups, seed),
    ]
    return descended(min(starts, key=costs.of), costs, np.random.default_rng(seed), _TRIALS)
