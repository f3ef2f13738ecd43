"""Groups of similar or dissimilar classes, by swaps that change the similarity within groups. K classes, G groups."""

import numpy as np

from sensai.grouping.partitions import Group, groups_of
from sensai.grouping.similarities import leaf_order

# A swap must gain more than this share of the largest similarity, or rounding could keep it going.
_LEAST_GAIN = 1e-9


def most_similar_groups(similarity: np.ndarray, n_groups: int) -> list[Group]:
    """Return the groups with the largest sum of similarities within groups that swaps can reach.

    Args:
        similarity: (K, K), symmetric.
        n_groups: G.
    """
    labels = np.empty(len(similarity), np.int64)
    for number, run in enumerate(np.array_split(leaf_order(similarity), n_groups)):
        labels[run] = number
    return groups_of(_swapped(similarity, labels, n_groups))


def least_similar_groups(similarity: np.ndarray, n_groups: int) -> list[Group]:
    """Return the groups with the smallest such sum."""
    labels = np.empty(len(similarity), np.int64)
    labels[leaf_order(similarity)] = np.arange(len(similarity)) % n_groups
    return groups_of(_swapped(-similarity, labels, n_groups))


def _swapped(similarity: np.ndarray, labels: np.ndarray, n_groups: int) -> np.ndarray:
    """Swap each class in turn with the one that adds most to the similarity within groups, until no swap adds any."""
    similar = similarity.astype(np.float64)
    np.fill_diagonal(similar, 0)
    least = _LEAST_GAIN * np.abs(similar).max()
    labels, everyone = labels.copy(), np.arange(len(labels))
    # towards (K, G) is the sum of similarities of each class to each group.
    towards = similar @ np.eye(n_groups)[labels]
    changed = True
    while changed:
        changed = False
        for one in everyone:
            own = labels[one]
            stays = towards[everyone, labels]
            gains = towards[one, labels] - stays[one] + towards[:, own] - stays - 2 * similar[one]
            gains[labels == own] = 0
            other = int(gains.argmax())
            if gains[other] <= least:
                continue
            difference = similar[other] - similar[one]
            towards[:, own] += difference
            towards[:, labels[other]] -= difference
            labels[one], labels[other] = labels[other], own
            changed = True
    return labels
