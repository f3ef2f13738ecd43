"""Clusters of the graph of similar classes."""

from typing import TYPE_CHECKING

from sensai.grouping.methods import METHODS

if TYPE_CHECKING:
    import numpy as np

    from sensai.grouping.partitions import Group


@METHODS.register("spectral", "balanced k-means on the leading eigenvectors of the similarity")
def spectral(similarity: "np.ndarray", n_groups: int, seed: int) -> "list[Group]":
    """Return balanced clusters of the leading eigenvectors of the normalised similarity.

    Negative similarities count as zero (Ng, Jordan and Weiss 2001, "On Spectral Clustering").
    """
    import numpy as np
    from scipy.linalg import eigh
    from sklearn.preprocessing import normalize

    from sensai.grouping.balanced_kmeans import balanced_kmeans
    from sensai.grouping.partitions import groups_of

    affinity = np.maximum(similarity.astype(np.float64), 0)
    np.fill_diagonal(affinity, 0)
    # A class that is similar to no other has a zero row, whose sum must not divide.
    scale = 1 / np.sqrt(np.maximum(affinity.sum(axis=1), np.finfo(np.float64).tiny))
    classes = len(affinity)
    _, vectors = eigh(scale[:, None] * affinity * scale, subset_by_index=[classes - n_groups, classes - 1])
    return groups_of(balanced_kmeans(normalize(vectors), n_groups, seed))
