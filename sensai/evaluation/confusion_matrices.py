"""Confusion of classes, within and between groups. K classes, G groups."""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import confusion_matrix

from sensai.grouping.partitions import Group, labels_of


def confusion(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the number of images of the row's class that were called the column's class, int64 (K, K)."""
    return confusion_matrix(labels, probabilities.argmax(1), labels=np.arange(probabilities.shape[1]))


def confusion_between_groups(matrix: np.ndarray, groups: Sequence[Group]) -> np.ndarray:
    """Return the number of images of the row's group that were called a class of the column's group, int64 (G, G).

    Args:
        matrix: int64 (K, K), see `confusion`.
        groups: a partition of the classes.
    """
    belongs = (labels_of(groups)[:, None] == np.arange(len(groups))).astype(np.int64)
    return belongs.T @ matrix @ belongs


def confusion_in_groups(matrix: np.ndarray, groups: Sequence[Group]) -> list[np.ndarray]:
    """Return the confusion within each group, int64 (g, g), in the group's order.

    It counts the group's images that were called one of its classes.

    Args:
        matrix: int64 (K, K), see `confusion`.
        groups: a partition of the classes.
    """
    return [matrix[np.ix_(group, group)] for group in groups]


def error_shares(matrix: np.ndarray, groups: Sequence[Group]) -> dict[str, float]:
    """Return `errors_between_groups` and `errors_in_groups`; empty if there is no error.

    They are the shares of all errors that are answers from another group than the image's, or from its own group.

    Args:
        matrix: int64 (K, K), see `confusion`.
        groups: a partition of the classes.
    """
    errors = int(matrix.sum() - np.trace(matrix))
    if not errors:
        return {}
    in_groups = int(np.trace(confusion_between_groups(matrix, groups)) - np.trace(matrix))
    return {"errors_between_groups": (errors - in_groups) / errors, "errors_in_groups": in_groups / errors}
