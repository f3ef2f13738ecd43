"""Plans: the channels that a member loses. This is array arithmetic only.

C channels of a site, M members, S sites; a plan maps each site to the sorted indices that are removed.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from sensai.activations import Statistics
from sensai.policy.criterion_inputs import Criterion, criterion_of
from sensai.sites import Plan

Ranking = Literal["global", "layer"]

BY_APOZ = criterion_of("apoz")
_APOZ_STEP = 0.05


@dataclass(frozen=True)
class WidthRule:
    """The widths that every site must keep.

    Attributes:
        min_channels: the fewest channels that stay in a site (all, if it has fewer); 0 means 1, except for `branches`.
        round_to: kept widths are the nearest multiple of this, if the site is wide enough for one.
        branches: site that may be emptied -> the sites that are useless then and go with it.
    """

    min_channels: int = 1
    round_to: int = 1
    branches: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def least(self, site: str) -> int:
        """Return the fewest channels that may stay in a site, if it is wide enough."""
        return max(self.min_channels, int(site not in self.branches))

    def kept_widths(self, kept: np.ndarray, channels: Mapping[str, int]) -> np.ndarray:
        """Return int64 (..., S): the widths that sites keep where a policy would keep `kept` (..., S) of their channels."""
        whole, least = np.array(list(channels.values())), np.array([self.least(site) for site in channels])
        rounded = (2 * kept + self.round_to) // (2 * self.round_to) * self.round_to
        floor = -(-least // self.round_to) * self.round_to
        widths = np.where(whole < self.round_to, whole, np.clip(rounded, floor, whole))
        number = {site: place for place, site in enumerate(channels)}
        for site, branch in self.branches.items():
            widths[..., [number[other] for other in branch]] *= widths[..., [number[site]]] > 0
        return widths


def ratio_plan(
    statistics: Statistics,
    classes: Sequence[int],
    ratio: float,
    *,
    ranking: Ranking = "global",
    rule: WidthRule = WidthRule(),
    criterion: Criterion = BY_APOZ,
) -> Plan:
    """Remove the share `ratio` of all channels, the most dispensable first.

    Args:
        statistics: of every site.
        classes: the member's classes; the channels are judged on their images.
        ratio: in [0, 1); where `rule` forbids so many, as many as it allows.
        ranking: `global` ranks the channels of all sites together, `layer` removes the share in each site.
        rule: widths to keep.
        criterion: how dispensable channels are.
    """
    ranked = _Ranked([criterion(statistics, classes)], ranking, rule)
    (plan,) = ranked.plans(ranked.removed(ranked.share(ratio)))
    return plan


def flops_plans(
    members: Sequence[Mapping[str, np.ndarray]],
    *,
    flops: Callable[[np.ndarray], np.ndarray],
    target: float,
    ranking: Ranking = "global",
    rule: WidthRule = WidthRule(),
) -> list[Plan]:
    """Return the plans that remove the fewest channels while the largest member has at most `target` FLOPs.

    The channels of all members are ranked together. So each member loses every channel that is at least as dispensable as
    the last one removed, and a member whose classes use fewer channels becomes smaller than the target. A single member
    gets the plan of the smallest ratio that meets the target. Members of equal keys and heads each get the plan that they
    would get alone. Memory is the limit: about 75 bytes for each channel of each member while they are sorted, 1.4 GiB for
    1000 members of 20,000.

    Args:
        members: sort keys of each, as by a criterion.
        flops: int64 (M, S) -> int64 (M,): FLOPs of the members when so many channels of each site go, known without building
            them; they fall with every channel.
        target: in FLOPs; where nothing reaches it, the plans of the fewest FLOPs are returned.
        ranking: `global` ranks the channels of all sites together, `layer` removes the same share in each site.
        rule: widths to keep.
    """
    ranked = _Ranked(members, ranking, rule)
    channels = int(ranked.channels.sum())

    def removed(step: int) -> np.ndarray:
        # Whole steps remove the same ratio from all members; the steps between two ratios add one member's channel after
        # the other's.
        whole, further = divmod(step, len(members))
        fewer, more = (ranked.share(count / channels) for count in (whole, whole + 1))
        return ranked.removed((len(members) - further) * fewer + further * more)

    # FLOPs fall with every removed channel, so bisection finds the first step that meets the target.
    steps = range(len(members) * channels)
    return ranked.plans(removed(bisect_left(steps, True, key=lambda step: flops(removed(step)).max() <= target)))


def threshold_plan(
    statistics: Statistics,
    classes: Sequence[int],
    *,
    apoz_threshold: float,
    mean_threshold: float,
    rule: WidthRule = WidthRule(),
) -> Plan:
    """Remove a channel if APoZ > `apoz_threshold` and mean < `mean_threshold`.

    Where that would leave a site fewer channels than `rule` demands, its APoZ threshold rises in steps of 0.05 until it
    does not. If even a threshold of 1 removes too many, the most dispensable channels go until the minimum is left.
    """
    by_rule, kept, keys = {}, [], BY_APOZ(statistics, classes)
    for site, values in statistics.items():
        zeros, mean = values.apoz(classes), values.mean(classes)
        order = _order(keys[site])
        least = min(rule.least(site), len(order))
        threshold = apoz_threshold
        removed = (zeros > threshold) & (mean < mean_threshold)
        while len(order) - removed.sum() < least and threshold < 1:
            threshold += _APOZ_STEP
            removed = (zeros > threshold if threshold < 1 else zeros >= 1) & (mean < mean_threshold)
        # Rounding may ask for more or fewer channels than the threshold found: those that it found go first, in order.
        by_rule[site] = np.concatenate([order[removed[order]], order[~removed[order]]])
        kept.append(len(order) - int(removed.sum()))
    widths = rule.kept_widths(np.array(kept), {site: len(order) for site, order in by_rule.items()})
    return {
        site: np.sort(order[: len(order) - width])
        for (site, order), width in zip(by_rule.items(), widths.tolist(), strict=True)
    }


def nested_plans(plan: Plan, keys: Mapping[str, np.ndarray], steps: int, *, ranking: Ranking = "global") -> list[Plan]:
    """Return a plan in steps that grow evenly in channels, the most dispensable first.

    Each step's plan contains the one before.

    Args:
        plan: what the last step removes.
        keys: sort keys of the plan's sites, as by a criterion.
        steps: how many.
        ranking: `global`: a step is its share of the plan's channels, ranked together; `layer`: of those of each site.
    """
    if ranking == "layer":
        by_site = {site: nested_plans({site: removed}, keys, steps) for site, removed in plan.items()}
        return [{site: nested[step][site] for site, nested in by_site.items()} for step in range(steps)]
    owner, ranked = _ranked_together(keys, plan)
    channels = np.concatenate(list(plan.values()))
    nested = []
    for step in range(1, steps + 1):
        gone = ranked[: round(step * len(ranked) / steps)]
        nested.append({site: np.sort(channels[gone[owner[gone] == number]]) for number, site in enumerate(plan)})
    return nested


def _order(keys: np.ndarray) -> np.ndarray:
    """Return int64 (..., C): the channels, the most dispensable first, from their sort keys (keys, ..., C)."""
    return np.lexsort(keys[::-1])


class _Ranked:
    """The channels of members in the order of removal, from one pool of all sites or from a pool of each site.

    Everything is sorted once; the channels removed at any count are then a slice.

    Attributes:
        channels: int64 (pools,): of one member.
    """

    def __init__(self, members: Sequence[Mapping[str, np.ndarray]], ranking: Ranking, rule: WidthRule) -> None:
        channels = {site: keys.shape[1] for site, keys in members[0].items()}
        self._kept_widths = partial(rule.kept_widths, channels=channels)
        self._widths = np.array(list(channels.values()))
        self._shape = len(members), len(channels)
        # Each site has int64 (M, C).
        self._orders, candidates = {}, []
        for number, (site, least) in enumerate(zip(channels, self._kept_widths(0 * self._widths), strict=True)):
            keys = np.stack([own[site] for own in members], axis=1)
            self._orders[site] = _order(keys)
            candidates.append(self._candidates(number, keys, self._orders[site], channels[site] - least))
        pools = [candidates] if ranking == "global" else [[each] for each in candidates]
        self._pools = [_merged(pool) for pool in pools]
        self.channels = self._widths.sum(keepdims=True) if ranking == "global" else self._widths

    def _candidates(self, site: int, keys: np.ndarray, orders: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the channels that may go from a site, in order of removal.

        The most dispensable of every member comes first, then the second of each, and so on.

        Returns:
            Their sort keys, and their places in (M, S).
        """
        keys = np.take_along_axis(keys, orders[None, :, :most], axis=2).swapaxes(1, 2).reshape(len(keys), -1)
        return keys, np.tile(np.arange(len(orders)) * self._shape[1] + site, most)

    def share(self, ratio: float) -> np.ndarray:
        """Return int64 (pools,): the share `ratio` of the channels of one member, in each pool."""
        return np.rint(ratio * self.channels).astype(np.int64)

    def removed(self, wanted: np.ndarray) -> np.ndarray:
        """Return int64 (M, S): the channels that each member loses of each site.

        Args:
            wanted: int64 (pools,): channels of all members to remove from each pool.
        """
        gone = [pool[:count] for pool, count in zip(self._pools, wanted, strict=True)]
        counts = np.bincount(np.concatenate(gone), minlength=math.prod(self._shape)).reshape(self._shape)
        return self._widths - self._kept_widths(self._widths - counts)

    def plans(self, removed: np.ndarray) -> list[Plan]:
        """Return the plan of each member, from the number of channels that it loses of each site."""
        return [
            {
                site: np.sort(order[member, :count])
                for (site, order), count in zip(self._orders.items(), counts, strict=True)
            }
            for member, counts in enumerate(removed.tolist())
        ]


def _merged(candidates: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the places of the candidates of some sites, the most dispensable first; ties go to the first site."""
    keys, places = (np.concatenate(each, axis=-1) for each in zip(*candidates, strict=True))
    return places[_order(keys)]


def _ranked_together(
    keys: Mapping[str, np.ndarray], channels: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Rank some channels of several sites, listed site by site.

    Returns:
        The number of each channel's site, and the places of the channels, the most dispensable first.
    """
    owner = np.repeat(np.arange(len(channels)), [len(own) for own in channels.values()])
    ranked = np.concatenate([keys[site][:, own] for site, own in channels.items()], axis=1)
    return owner, np.lexsort((owner, *ranked[::-1]))
