"""Groups as clusters of equal size. K classes, D dimensions, G groups."""

import numpy as np
from scipy.linalg import eigh
from sklearn.cluster import KMeans
from sklearn.decomposition import KernelPCA
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.preprocessing import StandardScaler, normalize

from sensai.activations import Statistics
from sensai.grouping.evidence import Evidence
from sensai.grouping.partitions import Group, balanced, groups_of

# Starts of plain k-means, of which the best is taken.
_STARTS = 4
# Most rounds of the balanced one, which is mostly done within ten.
_ROUNDS = 100


def kmeans(evidence: Evidence, n_groups: int, seed: int) -> list[Group]:
    """Balanced k-means on the standardised APoZ and means of all channels."""
    points = _standardised(evidence.statistics)
    if points.shape[1] > len(points):
        # K points are as far from each other in fewer than K dimensions, where each distance takes less time.
        points = KernelPCA(len(points) - 1, kernel="linear", eigen_solver="dense").fit_transform(points)
    return groups_of(balanced_kmeans(points, n_groups, seed))


def spectral(evidence: Evidence, n_groups: int, seed: int) -> list[Group]:
    """Balanced k-means on the leading eigenvectors of the normalised similarity (Ng, Jordan and Weiss 2001, "On Spectral
    Clustering"); what is less than nothing alike counts as not alike.
    """
    affinity = np.maximum(evidence.similarity().astype(np.float64), 0)
    np.fill_diagonal(affinity, 0)
    # A class like no other stands by itself.
    scale = 1 / np.sqrt(np.maximum(affinity.sum(axis=1), np.finfo(np.float64).tiny))
    classes = len(affinity)
    _, vectors = eigh(scale[:, None] * affinity * scale, subset_by_index=[classes - n_groups, classes - 1])
    return groups_of(balanced_kmeans(normalize(vectors), n_groups, seed))


def balanced_kmeans(points: np.ndarray, n_groups: int, seed: int) -> np.ndarray:
    """int64 (K,): the cluster of each point, where clusters are as large as each other, give or take one.

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


def _standardised(statistics: Statistics) -> np.ndarray:
    """float32 (K, D): APoZ and mean of every channel, each with mean 0 and variance 1 over the classes; 0 for a class without
    images.
    """
    columns = []
    for site in statistics.values():
        elements = np.where(site.elements, site.elements, np.nan)[:, None]
        columns += [(site.zeros / elements).astype(np.float32), (site.magnitude / elements).astype(np.float32)]
    return np.nan_to_num(StandardScaler(copy=False).fit_transform(np.concatenate(columns, axis=1)), copy=False)
