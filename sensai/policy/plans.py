"""Plans: which channels a member goes without. Array arithmetic only.

C channels of a site, M members, S sites; a plan maps each site to the sorted indices that are removed.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sensai.activations import Statistics
from sensai.policy.criteria import Criterion, apoz
from sensai.sites import Plan

Ranking = Literal["global", "layer"]

_APOZ_STEP = 0.05


@dataclass(frozen=True)
class WidthRule:
    """What every site must keep.

    Attributes:
        min_channels: at least so many channels stay in a site (all, where it has fewer).
        round_to: kept widths are the nearest multiple of this, where the site is wide enough for one.
    """

    min_channels: int = 1
    round_to: int = 1

    def kept_width(self, kept: int | np.ndarray, channels: int | np.ndarray) -> np.ndarray:
        """int64 (...,): the widths that sites of so many channels keep when a policy would keep `kept` of them."""
        rounded = (2 * kept + self.round_to) // (2 * self.round_to) * self.round_to
        floor = -(-self.min_channels // self.round_to) * self.round_to
        return np.where(channels < self.round_to, channels, np.clip(rounded, max(floor, 1), channels))


def ratio_plan(
    statistics: Statistics,
    classes: Sequence[int],
    ratio: float,
    *,
    ranking: Ranking = "global",
    rule: WidthRule = WidthRule(),
    criterion: Criterion = apoz,
) -> Plan:
    """Remove the share `ratio` of all channels, the most dispensable first.

    Args:
        statistics: of every site.
        classes: the member's classes; their images are what the channels are judged on.
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
    """The plans that remove the least with which the largest of some members has at most `target` FLOPs.

    Their channels are ranked together, so that a member goes without every channel that is as dispensable as those of the last
    one to meet the target: where its classes use fewer, it is smaller than it has to be. A single member gets the plan of the
    smallest ratio that meets the target; members of equal keys and heads, the plan that each would get by itself. Memory is
    what limits it: about 75 bytes for each channel of each member while they are sorted, 1.4 GiB for 1000 members of 20,000.

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
        # What all would lose at one ratio and at the next, and in between one member's channel after the other's.
        whole, further = divmod(step, len(members))
        fewer, more = (ranked.share(count / channels) for count in (whole, whole + 1))
        return ranked.removed((len(members) - further) * fewer + further * more)

    # FLOPs fall with every channel that goes, so the first step that meets the target is found by halving.
    steps = range(len(members) * (channels - 1))
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

    Where that would leave a site fewer than `rule.min_channels`, its APoZ threshold rises in steps of 0.05 until it does not;
    where even APoZ = 1 is not enough, the most dispensable channels go until the minimum is left.
    """
    plan, keys = {}, apoz(statistics, classes)
    for site, values in statistics.items():
        zeros, mean = values.apoz(classes), values.mean(classes)
        order = _order(keys[site])
        least = min(rule.min_channels, len(order))
        threshold = apoz_threshold
        removed = (zeros > threshold) & (mean < mean_threshold)
        while len(order) - removed.sum() < least and threshold < 1:
            threshold += _APOZ_STEP
            removed = (zeros > threshold if threshold < 1 else zeros >= 1) & (mean < mean_threshold)
        count = len(order) - int(rule.kept_width(len(order) - int(removed.sum()), len(order)))
        # Rounding widths may ask for more or fewer than the rule found: its own finds go first, in order.
        by_rule = np.concatenate([order[removed[order]], order[~removed[order]]])
        plan[site] = np.sort(by_rule[:count])
    return plan


def nested_plans(plan: Plan, keys: Mapping[str, np.ndarray], steps: int, *, ranking: Ranking = "global") -> list[Plan]:
    """A plan in steps that grow evenly in channels, the most dispensable first; each step's plan contains the one before.

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
    """int64 (..., C): channels, the most dispensable first, from their sort keys (keys, ..., C)."""
    return np.lexsort(keys[::-1])


class _Ranked:
    """The channels of members in the order in which they go, from one pool of all sites or from a pool of each site.

    Everything is sorted once; how many go at any count is then a slice.

    Attributes:
        channels: int64 (pools,): of one member.
    """

    def __init__(self, members: Sequence[Mapping[str, np.ndarray]], ranking: Ranking, rule: WidthRule) -> None:
        self._rule = rule
        self._shape = len(members), len(members[0])
        # int64 (M, C) of each site.
        self._orders, candidates = {}, []
        for number, site in enumerate(members[0]):
            keys = np.stack([own[site] for own in members], axis=1)
            self._orders[site] = _order(keys)
            candidates.append(self._candidates(number, keys, self._orders[site]))
        self._widths = np.array([order.shape[1] for order in self._orders.values()])
        pools = [candidates] if ranking == "global" else [[each] for each in candidates]
        self._pools = [_merged(pool) for pool in pools]
        self.channels = self._widths.sum(keepdims=True) if ranking == "global" else self._widths

    def _candidates(self, site: int, keys: np.ndarray, orders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What may go from a site, first what each member misses least, and so on: its keys, and its places in (M, S)."""
        members, channels = orders.shape
        free = orders[:, : channels - int(self._rule.kept_width(0, channels))]
        keys = np.take_along_axis(keys, free[None], axis=2).swapaxes(1, 2).reshape(len(keys), -1)
        return keys, np.tile(np.arange(members) * self._shape[1] + site, free.shape[1])

    def share(self, ratio: float) -> np.ndarray:
        """int64 (pools,): the share `ratio` of the channels of one member, in each pool."""
        return np.rint(ratio * self.channels).astype(np.int64)

    def removed(self, wanted: np.ndarray) -> np.ndarray:
        """int64 (M, S): what each member loses of each site when so many channels of all members are to go from each pool."""
        gone = [pool[:count] for pool, count in zip(self._pools, wanted, strict=True)]
        counts = np.bincount(np.concatenate(gone), minlength=math.prod(self._shape)).reshape(self._shape)
        return self._widths - self._rule.kept_width(self._widths - counts, self._widths)

    def plans(self, removed: np.ndarray) -> list[Plan]:
        """The plan of each member, from how many channels of each site it loses."""
        return [
            {
                site: np.sort(order[member, :count])
                for (site, order), count in zip(self._orders.items(), counts, strict=True)
            }
            for member, counts in enumerate(removed.tolist())
        ]


def _merged(candidates: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The places of the candidates of some sites, the most dispensable first; of equal ones those of the first site."""
    keys, places = (np.concatenate(each, axis=-1) for each in zip(*candidates, strict=True))
    return places[_order(keys)]


def _ranked_together(
    keys: Mapping[str, np.ndarray], channels: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Some channels of several sites, one site's after the other's: the site's number of each, and the places of the most
    dispensable first.
    """
    owner = np.repeat(np.arange(len(channels)), [len(own) for own in channels.values()])
    ranked = np.concatenate([keys[site][:, own] for site, own in channels.items()], axis=1)
    return owner, np.lexsort((owner, *ranked[::-1]))
