"""Clusters of equal size. K points, D dimensions, G clusters."""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics.pairwise import euclidean_distances

from sensai.grouping.partitions import balanced

# Starts of plain k-means, of which the best one counts.
_STARTS = 4
# Most rounds of the balanced form, which mostly ends within ten.
_ROUNDS = 100


def balanced_kmeans(points: np.ndarray, n_groups: int, seed: int) -> np.ndarray:
    """Return int64 (K,): the cluster of each point, with cluster sizes that differ by at most one.

    From the centres of plain k-means, points are assigned evenly and centres moved by turns until nothing changes
    (Malinen and Fränti 2014, "Balanced K-Means for Clustering").

    Args:
        points: (K, D).
        n_groups: G, at most K.
        seed: of the starts of plain k-means.
    """
    centres = KMeans(n_groups, n_init=_STARTS, random_state=seed).fit(points).cluster_centers_
    labels = np.full(len(points), -1)
    for _ in range(_ROUNDS):
        moved = balanced(euclidean_distances(points, centres, squared=True))
        if np.array_equal(moved, labels):
            break
        labels = moved
        centres = np.stack([points[labels == number].mean(axis=0) for number in range(n_groups)])
    return labels
