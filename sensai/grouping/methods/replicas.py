"""Several members of all classes: a deep ensemble (Lakshminarayanan et al. 2017), the rival of equal total cost."""

from typing import TYPE_CHECKING

from sensai.grouping.methods import METHODS

if TYPE_CHECKING:
    from sensai.grouping.partitions import Group


@METHODS.register("replicas", "n_groups members, each with all classes", joinable=None)
def replicas(num_classes: int, n_groups: int) -> "list[Group]":
    """Return all classes for each member."""
    return [tuple(range(num_classes))] * n_groups
