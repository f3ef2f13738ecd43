"""The inputs of grouping methods, and the groups that a method makes of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from sensai.activations import Statistics
from sensai.errors import InputError
from sensai.grouping.costs import MemberCosts
from sensai.grouping.methods import METHODS
from sensai.grouping.overlaps import Design, Ring, cheap_ring, similar_ring
from sensai.grouping.partitions import Group, singletons
from sensai.grouping.similarities import class_similarity, leaf_order
from sensai.parts import Part


@dataclass(frozen=True)
class GroupingInputs:
    """The inputs that the grouping methods may use (see `sensai.grouping.methods`); K classes, G groups.

    Attributes:
        class_names: of the K classes, in the order of the labels.
        statistics: of every site.
        costs: the costs of members.
        measure_similarity: returns float64 (K, K), symmetric, larger where two classes are more alike. It may take time, and is
            called only for methods that use it.
        measure_confusion: likewise, larger where the base model confuses two classes.
        n_groups: G; 1 is the control.
        overlap: number of members of each class.
        overlap_design: of the groups that share classes, where `overlap` is above 1.
        seed: of random choices.
        groups_file: the user's file of groups.
    """

    class_names: tuple[str, ...]
    statistics: Statistics
    costs: MemberCosts
    measure_similarity: Callable[[], np.ndarray]
    measure_confusion: Callable[[], np.ndarray]
    n_groups: int = 1
    overlap: int = 1
    overlap_design: Design = "ring"
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

    @cached_property
    def confusion(self) -> np.ndarray:
        """Return float64 (K, K): how often the base model confuses two classes."""
        return self.measure_confusion()


def form_groups(method: str, inputs: GroupingInputs) -> list[Group]:
    """Return the groups that a method makes: each class is in one, or in `overlap` of them.

    Args:
        method: a name in `METHODS`.
        inputs: the inputs that it may use.

    Raises:
        InputError: no such method, more groups than classes, or no such groups with `overlap`.
    """
    part = METHODS[method]
    if part.traits["joinable"] is None:
        groups: list[Group] = part(inputs)
        return groups
    parts = _partition(part, inputs)
    return parts if inputs.overlap == 1 else _joined(part, parts, inputs)


def _partition(part: Part, inputs: GroupingInputs) -> list[Group]:
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


def _joined(part: Part, parts: list[Group], inputs: GroupingInputs) -> list[Group]:
    """Return groups that are several parts of a partition each, the companions of a part chosen as its method says."""
    ring = Ring(parts, inputs.overlap, inputs.overlap_design)
    joinable = part.traits["joinable"]
    if joinable == "random":
        return ring.groups(ring.filled(np.random.default_rng([inputs.seed, 1]).permutation(len(parts)).tolist()))
    similarity = inputs.similarity if "similarity" in part.uses else class_similarity(inputs.statistics)
    # The parts in the order in which a dendrogram has their first classes.
    order = [place for label in leaf_order(similarity) for place, group in enumerate(parts) if group[0] == label]
    if joinable == "cheap":
        return cheap_ring(ring, inputs.costs, order, inputs.seed)
    return similar_ring(ring, similarity if joinable == "similar" else -similarity, order)
