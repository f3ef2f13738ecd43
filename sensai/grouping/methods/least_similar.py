"""Groups by the similarity of two classes: similar classes apart."""

from typing import TYPE_CHECKING

from sensai.grouping.methods import METHODS

if TYPE_CHECKING:
    import numpy as np

    from sensai.grouping.partitions import Group


@METHODS.register("least_similar", "similar classes apart", joinable="dissimilar")
def least_similar(similarity: "np.ndarray", n_groups: int) -> "list[Group]":
    """Return groups of dissimilar classes: the leaves of a dendrogram are dealt out in turn, then swapped."""
    from sensai.grouping.swaps import least_similar_groups

    return least_similar_groups(similarity, n_groups)
