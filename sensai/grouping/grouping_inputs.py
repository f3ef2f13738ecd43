"""The inputs of grouping methods, and the partition that a method makes of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from sensai.activations import Statistics
from sensai.errors import InputError
from sensai.grouping.costs import MemberCosts
from sensai.grouping.methods import METHODS
from sensai.grouping.partitions import Group, singletons


@dataclass(frozen=True)
class GroupingInputs:
    """The inputs that the grouping methods may use (see `sensai.grouping.methods`); K classes, G groups.

    Attributes:
        class_names: of the K classes, in the order of the labels.
        statistics: of every site.
        costs: the costs of members.
        measure_similarity: returns float64 (K, K), symmetric, larger where two classes are more alike. It may take time, and is
            called only for methods that use it.
        n_groups: G; 1 is the control.
        seed: of random choices.
        groups_file: the user's file of groups.
    """

    class_names: tuple[str, ...]
    statistics: Statistics
    costs: MemberCosts
    measure_similarity: Callable[[], np.ndarray]
    n_groups: int = 1
    seed: int = 0
    groups_file: Path = Path()

    @property
    def num_classes(self) -> int:
        """Return K."""
        return len(self.class_names)

    @cached_property
    def similarity(self) -> np.ndarray:
        """Return float64 (K, K): the similarity of two classes."""
        return self.measure_similarity()


def form_groups(method: str, inputs: GroupingInputs) -> list[Group]:
    """Return the partition of the classes that a method makes.

    Args:
        method: a name in `METHODS`.
        inputs: the inputs that it may use.

    Raises:
        InputError: no such method, or more groups than classes.
    """
    part = METHODS[method]
    if "n_groups" in part.uses:
        if inputs.n_groups > inputs.num_classes:
            raise InputError(f"n_groups={inputs.n_groups}: there are only {inputs.num_classes} classes")
        # There is only one such partition, so no method has to handle this case.
        if inputs.n_groups == 1:
            return [tuple(range(inputs.num_classes))]
        if inputs.n_groups == inputs.num_classes:
            return singletons(inputs.num_classes)
    groups: list[Group] = part(inputs)
    return groups
