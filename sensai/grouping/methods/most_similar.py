"""Groups by the similarity of two classes: similar classes together."""

from typing import TYPE_CHECKING

from sensai.grouping.methods import METHODS

if TYPE_CHECKING:
    import numpy as np

    from sensai.grouping.partitions import Group


@METHODS.register("most_similar", "similar classes together")
def most_similar(similarity: "np.ndarray", n_groups: int) -> "list[Group]":
    """Return groups of similar classes: the leaves of a dendrogram are cut into equal runs, then swapped."""
    from sensai.grouping.swaps import most_similar_groups

    return most_similar_groups(similarity, n_groups)
