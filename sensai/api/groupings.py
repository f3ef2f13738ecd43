"""group: Choose the classes that share a member. K classes, G groups."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from sensai.analysis.rounding import in_short
from sensai.api.display import as_html
from sensai.api.parameters import checked
from sensai.api.scores import ChannelStatistics
from sensai.api.user_images import BATCH, UserImages, split_of
from sensai.config import GroupConfig
from sensai.data.batches import batches
from sensai.errors import InputError
from sensai.evaluation import confusion, run_networks
from sensai.grouping.costs import MemberCosts
from sensai.grouping.grouping_inputs import form_groups
from sensai.grouping.partitions import Group, class_label
from sensai.grouping.similarities import confusion_similarity
from sensai.pipeline.configured import grouping_inputs
from sensai.sites import SizePrediction

REPLICAS = "replicas"


@dataclass(frozen=True)
class Groups(Sequence[Group]):
    """The classes of each member, as class indices.

    Attributes:
        groups: of each member.
        class_names: the K names.
        method: that made them.
        sizes: parameters and FLOPs of each member at the ratio that the method was given; empty where nothing predicted them.
    """

    groups: tuple[Group, ...]
    class_names: tuple[str, ...]
    method: str = "singletons"
    sizes: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, number: Any) -> Any:
        return self.groups[number]

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    @property
    def table(self) -> pd.DataFrame:
        """Return a row a group: its classes, and its member's predicted params and flops."""
        rows = pd.DataFrame({"classes": [class_label(group, self.class_names) for group in self.groups]})
        if self.sizes:
            rows["params"], rows["flops"] = zip(*self.sizes, strict=True)
        return rows

    def __repr__(self) -> str:
        groups = "; ".join(class_label(group, self.class_names) for group in self.groups)
        largest = f", the largest member {in_short(max(flops for _, flops in self.sizes))}FLOPs" if self.sizes else ""
        return f"{len(self)} groups of {len(self.class_names)} classes by {self.method}{largest}: {groups}"

    def _repr_html_(self) -> str:
        return as_html(repr(self).partition(": ")[0], self.table)


def group(
    statistics: ChannelStatistics,
    method: str = "singletons",
    n_groups: int | None = None,
    *,
    ratio: float = 0.5,
    overlap: int = 1,
    overlap_design: str = "ring",
    similarity: str = "coupling",
    scope: str = "inner",
    groups_file: str = "",
    seed: int = 0,
    val: UserImages = None,
) -> Groups:
    """Return groups of classes, of which each will have a member. Nothing is trained, and no image is read again.

    Args:
        statistics: of `score`.
        method: name of a grouping method, e.g. `singletons`, `min_flops`, `most_similar`, `random` or `replicas`.
        n_groups: number of groups, for methods that take one; 1 is the control, one network of all classes.
        ratio: share of channels that members are taken to lose where a method weighs their sizes or common channels.
        overlap: number of members of each class.
        overlap_design: `ring` or `balanced`, where `overlap` is above 1.
        similarity: of two classes: `coupling`, `statistics` or `confusion`.
        scope: `inner`: channels inside blocks; `all`: the residual stream too.
        groups_file: JSON file of the method `file`.
        seed: of random choices.
        val: validation images, for methods and similarities that use the confusion of the base model.

    Raises:
        InputError: a parameter is not allowed, or `val` is missing.
    """
    values = {
        "method": method,
        "n_groups": n_groups,
        "ratio": ratio,
        "overlap": overlap,
        "overlap_design": overlap_design,
    }
    more = {"similarity": similarity, "scope": scope, "groups_file": groups_file, "seed": seed}
    config = checked(GroupConfig, values | more)
    sites, sums = statistics.within(config.scope)
    base = statistics.base
    costs = MemberCosts(sums, SizePrediction(base.network, sites, base.spec.input_shape), config.ratio)
    confused = partial(_confused, statistics, val, config)
    inputs = grouping_inputs(config, statistics.class_names, sums, costs, costs.counts.coupling, confused)
    groups = form_groups(config.method, inputs)
    return Groups(tuple(groups), statistics.class_names, config.method, tuple(costs.sizes(groups)))


def _confused(statistics: ChannelStatistics, val: UserImages, config: GroupConfig) -> np.ndarray:
    """Return how often the base model confuses two classes on validation images: float64 (K, K)."""
    if val is None:
        asked = "similarity='confusion'" if config.by_similarity else f"method={config.method!r}"
        raise InputError(f"val=None: {asked} needs validation images")
    base = statistics.base
    split = split_of(val, "val", len(statistics.class_names), base.spec.input_shape)
    outputs = run_networks([base.network], batches(split, BATCH, statistics.normalization, base.device))
    return confusion_similarity(confusion(outputs.members[0], outputs.labels))


def groups_of(given: "Groups | Sequence[Sequence[int | str]] | None", class_names: tuple[str, ...]) -> Groups:
    """Return groups as `group` gives them; None: a group for every class.

    Args:
        given: also lists of class names or indices.
        class_names: the K names.

    Raises:
        InputError: a class is unknown, in no group, or twice in one.
    """
    if isinstance(given, Groups):
        if given.class_names != class_names:
            raise InputError(
                f"groups: are of {len(given.class_names)} other classes than the {len(class_names)} scored ones"
            )
        return given
    if given is None:
        return Groups(tuple((label,) for label in range(len(class_names))), class_names)
    if isinstance(given, str) or not all(isinstance(each, Sequence) and not isinstance(each, str) for each in given):
        raise InputError("groups: must be of `group`, or a list of lists of class names or indices")
    labels = {name: label for label, name in enumerate(class_names)}
    groups = tuple(tuple(_label(entry, labels) for entry in each) for each in given)
    for each in groups:
        twice = [class_names[label] for label, count in Counter(each).items() if count > 1]
        if twice or not each:
            raise InputError(f"groups: {f'{twice[0]!r} is twice in one group' if twice else 'a group is empty'}")
    if missing := [name for label, name in enumerate(class_names) if not any(label in each for each in groups)]:
        raise InputError(f"groups: every class must be in a group; missing: {', '.join(missing[:10])}")
    whole = len(groups) > 1 and all(len(each) == len(class_names) for each in groups)
    return Groups(groups, class_names, REPLICAS if whole else "your own choice")


def _label(entry: object, labels: dict[str, int]) -> int:
    if isinstance(entry, str) and entry in labels:
        return labels[entry]
    if isinstance(entry, int | np.integer) and not isinstance(entry, bool) and 0 <= entry < len(labels):
        return int(entry)
    raise InputError(f"groups: {entry!r} is neither a class name nor an index below {len(labels)}")
