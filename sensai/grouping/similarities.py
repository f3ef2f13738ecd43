"""Similarities of classes, and the order that they give. K classes."""

from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from sensai.activations import Statistics
from sensai.grouping.partitions import Group, membership

# The best order of the leaves takes cubic time: up to so many leaves it is found within seconds.
_MOST_ORDERED = 200


def class_similarity(statistics: Statistics) -> np.ndarray:
    """Return float64 (K, K): correlation of two classes' APoZ over the channels of all sites; 0 for a class without images."""
    with np.errstate(invalid="ignore"):
        shares = np.concatenate([site.zeros / site.elements[:, None] for site in statistics.values()], axis=1)
        return np.nan_to_num(np.corrcoef(shares))


def confusion_similarity(confusion: np.ndarray) -> np.ndarray:
    """Return float64 (K, K), symmetric: how often an image of one class is called the other, the mean of both directions.

    Args:
        confusion: int (K, K): images of class row that were called class column; a class without images is similar to no other.
    """
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return (shares + shares.T) / 2


def leaf_order(similarity: np.ndarray) -> np.ndarray:
    """Return int64 (K,): the classes in the order of the leaves of a dendrogram by average linkage, similar ones together.

    Args:
        similarity: (K, K), symmetric.
    """
    if len(similarity) < 3:
        return np.arange(len(similarity))
    distance = similarity.max() - similarity.astype(np.float64)
    np.fill_diagonal(distance, 0)
    tree = linkage(
        squareform(distance, checks=False), method="average", optimal_ordering=len(similarity) <= _MOST_ORDERED
    )
    return leaves_list(tree).astype(np.int64)


def coupling_means(coupling: np.ndarray, groups: Sequence[Group]) -> dict[str, float]:
    """Return `coupling_within` and `coupling_between`.

    They are the mean coupling of two classes that share a group, and of two that share none, if there are any.

    Args:
        coupling: (K, K), see `RatioCounts.coupling`.
        groups: every class is in at least one.
    """
    # The product of bool arrays is True where any group has both classes.
    member = membership(groups, len(coupling))
    same = member @ member.T
    pairs = np.triu(np.ones_like(same), k=1).astype(bool)
    parts = {"coupling_within": coupling[pairs & same], "coupling_between": coupling[pairs & ~same]}
    return {name: float(values.mean()) for name, values in parts.items() if len(values)}
