"""Classes to groups: the methods, one file a family (`methods` lists them by name), by how alike classes are (`similarities`)
and what members would cost (`costs`).
"""

from sensai.grouping.costs import MemberCosts
from sensai.grouping.drawn import random_groups
from sensai.grouping.evidence import Evidence, Method
from sensai.grouping.files import read_groups
from sensai.grouping.methods import METHODS, form_groups
from sensai.grouping.partitions import Group, labels_of, singletons
from sensai.grouping.similarities import class_similarity, confusion_similarity, coupling_means, leaf_order

__all__ = [
    "METHODS",
    "Evidence",
    "Group",
    "MemberCosts",
    "Method",
    "class_similarity",
    "confusion_similarity",
    "coupling_means",
    "form_groups",
    "labels_of",
    "leaf_order",
    "random_groups",
    "read_groups",
    "singletons",
]
