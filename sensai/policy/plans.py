"""Plans: which channels a member goes without. Array arithmetic only.

C channels of a site; a plan maps each site to the sorted indices that are removed.
"""

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

    def kept_width(self, kept: int, channels: int) -> int:
        """The width that a site of so many channels keeps when a policy would keep `kept`."""
        rounded = int(kept / self.round_to + 0.5) * self.round_to if channels >= self.round_to else channels
        floor = -(-self.min_channels // self.round_to) * self.round_to
        return min(max(rounded, floor, 1), channels)


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
    keys = criterion(statistics, classes)
    orders = {site: _order(own) for site, own in keys.items()}
    channels = {site: len(order) for site, order in orders.items()}
    if ranking == "layer":
        removed = {site: round(ratio * count) for site, count in channels.items()}
    else:
        removed = _removed_globally(keys, orders, ratio, rule)
    return {
        site: np.sort(order[: channels[site] - rule.kept_width(channels[site] - removed[site], channels[site])])
        for site, order in orders.items()
    }


def flops_plan(
    by_ratio: Callable[[float], Plan], channels: int, *, flops: Callable[[Plan], int], target: float
) -> Plan:
    """The plan of the smallest ratio with which a member has at most `target` FLOPs.

    Args:
        by_ratio: ratio -> plan, as by `ratio_plan`; a larger ratio removes what a smaller one does, and more.
        channels: of all sites.
        flops: FLOPs of the member with a plan, known without building it.
        target: in FLOPs; where no ratio reaches it, the plan of the fewest FLOPs is returned.
    """
    # FLOPs fall with every channel that goes, so the first count that meets the target is found by halving.
    fewest = bisect_left(range(channels - 1), True, key=lambda removed: flops(by_ratio(removed / channels)) <= target)
    return by_ratio(fewest / channels)


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
        count = len(order) - rule.kept_width(len(order) - int(removed.sum()), len(order))
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
    """The channels of a site, the most dispensable first, from its sort keys (keys, C)."""
    return np.lexsort(keys[::-1])


def _removed_globally(
    keys: dict[str, np.ndarray], orders: dict[str, np.ndarray], ratio: float, rule: WidthRule
) -> dict[str, int]:
    """How many channels each site loses when all are ranked together and no site goes below its least width."""
    removable = {site: order[: len(order) - rule.kept_width(0, len(order))] for site, order in orders.items()}
    owner, ranked = _ranked_together(keys, removable)
    wanted = round(ratio * sum(len(order) for order in orders.values()))
    counts = np.bincount(owner[ranked[:wanted]], minlength=len(orders))
    return dict(zip(orders, counts.tolist(), strict=True))


def _ranked_together(
    keys: Mapping[str, np.ndarray], channels: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Some channels of several sites, one site's after the other's: the site's number of each, and the places of the most
    dispensable first.
    """
    owner = np.repeat(np.arange(len(channels)), [len(own) for own in channels.values()])
    ranked = np.concatenate([keys[site][:, own] for site, own in channels.items()], axis=1)
    return owner, np.lexsort((owner, *ranked[::-1]))
