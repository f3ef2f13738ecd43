"""Groups of classes: partitions whose sizes differ by at most one, and groups that share classes. K classes, G groups."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

# The classes of one member, in the order of its outputs.
Group = tuple[int, ...]


def singletons(num_classes: int) -> list[Group]:
    """Return a group for every class: binary members."""
    return [(label,) for label in range(num_classes)]


def groups_of(labels: np.ndarray) -> list[Group]:
    """Return the groups, each in ascending order, sorted by their first classes, so that equal partitions are equal lists.

    Args:
        labels: int64 (K,), the group of each class; empty groups are omitted.
    """
    return sorted(tuple(np.flatnonzero(labels == number).tolist()) for number in np.unique(labels))


def number_of_classes(groups: Sequence[Group]) -> int:
    """Return K, where every class is in at least one group."""
    return 1 + max(max(group) for group in groups)


def class_label(classes: Group, class_names: Sequence[str]) -> str:
    """Return the classes of a member as people read them."""
    return "+".join(class_names[label] for label in classes)


def membership(groups: Sequence[Group], num_classes: int) -> np.ndarray:
    """Return bool (K, G): True where a class is in a group."""
    table = np.zeros((num_classes, len(groups)), bool)
    for number, group in enumerate(groups):
        table[list(group), number] = True
    return table


def is_partition(groups: Sequence[Group]) -> bool:
    """Return True if no two groups share a class."""
    return sum(len(group) for group in groups) == number_of_classes(groups)


def labels_of(groups: Sequence[Group]) -> np.ndarray:
    """Return int64 (K,): the number of each class's group in a partition."""
    labels = np.empty(sum(len(group) for group in groups), np.int64)
    for number, group in enumerate(groups):
        labels[list(group)] = number
    return labels


def balanced(costs: np.ndarray) -> np.ndarray:
    """Return the assignment of least total cost that fills groups evenly: int64 (K,), the group of each class.

    Args:
        costs: (K, G), of every class in every group; K >= G.
    """
    num_classes, n_groups = costs.shape
    least = num_classes // n_groups
    # Each group has `least` places that must be filled and an optional one, which costs more than all that it could save.
    optional = costs + (1 + num_classes * (costs.max() - costs.min()))
    places = np.concatenate([np.repeat(costs, least, axis=1), optional], axis=1)
    owners = np.concatenate([np.repeat(np.arange(n_groups), least), np.arange(n_groups)])
    _, taken = linear_sum_assignment(places)
    return owners[taken]
