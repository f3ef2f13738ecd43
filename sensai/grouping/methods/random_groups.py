"""Random groups."""

from typing import TYPE_CHECKING

from sensai.grouping.methods import METHODS

if TYPE_CHECKING:
    from sensai.grouping.partitions import Group


@METHODS.register("random", "sampled by seed", joinable="random")
def random_groups(num_classes: int, n_groups: int, seed: int) -> "list[Group]":
    """Return a random partition into groups whose sizes differ by at most one."""
    from sensai.grouping.samples import sample_groups

    return sample_groups(num_classes, n_groups, seed)
