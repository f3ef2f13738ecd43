"""Random statistics, plain loops and promises that plans are checked against."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from sensai.activations import SiteStatistics, Statistics
from sensai.policy.criteria import CRITERIA
from sensai.policy.criterion_inputs import Criterion, criterion_of
from sensai.policy.plans import WidthRule
from sensai.sites import Plan

NUM_CLASSES = 3
ELEMENTS = 20

checked = settings(max_examples=150, deadline=None, derandomize=True)

# There are few different values, so that ties are common.
MAGNITUDES = np.array([0.0, 0.05, 0.1, 0.5, 7.0])


@st.composite
def statistics_of_sites(draw: st.DrawFn, least_channels: int = 1) -> Statistics:
    """Generate statistics of one to four sites; sometimes the last of the three classes has no images."""
    sites = {}
    images = np.array([1, 2, draw(st.sampled_from([0, 1, 3]))], np.int64)
    for number in range(draw(st.integers(1, 4))):
        channels = draw(st.integers(least_channels, 9))
        # One draw for a whole site: 54 draws of a number each would take most of the time of these tests.
        size = 2 * NUM_CLASSES * channels
        drawn = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8).reshape(2, NUM_CLASSES, channels)
        sites[f"site{number}"] = SiteStatistics(
            drawn[0].astype(np.int64) % (ELEMENTS + 1) * images[:, None],
            MAGNITUDES[drawn[1] % len(MAGNITUDES)] * images[:, None],
            ELEMENTS * images,
        )
    return sites


CLASSES = st.sampled_from([(0,), (1,), (0, 1), (0, 2), (0, 1, 2)])
RULES = st.builds(WidthRule, min_channels=st.integers(1, 5), round_to=st.sampled_from([1, 1, 2, 4, 8]))
RATIOS = st.floats(0, 0.99)


def keys(statistics: Statistics, site: str, classes: Sequence[int]) -> list[tuple[float, float]]:
    """Return (-APoZ, mean) of each channel, by hand."""
    values = statistics[site]
    elements = sum(int(values.elements[label]) for label in classes)
    return [
        (
            -sum(int(values.zeros[label, channel]) for label in classes) / elements,
            sum(float(values.magnitude[label, channel]) for label in classes) / elements,
        )
        for channel in range(values.zeros.shape[1])
    ]


def kept_width(rule: WidthRule, kept: int, channels: int) -> int:
    """Return the kept width of a site that must not be emptied."""
    return int(rule.kept_widths(np.array([kept]), {"site": channels})[0])


def removed_by_loop(
    statistics: Statistics, classes: Sequence[int], ratio: float, min_channels: int | dict[str, int]
) -> Plan:
    """Return the channels that the global ratio policy removes, by a loop over all channels, the most dispensable first."""
    ranked = sorted(
        (*key, position, channel, site)
        for position, site in enumerate(statistics)
        for channel, key in enumerate(keys(statistics, site, classes))
    )
    kept = {site: values.zeros.shape[1] for site, values in statistics.items()}
    wanted = round(ratio * sum(kept.values()))
    least = min_channels if isinstance(min_channels, dict) else dict.fromkeys(kept, min_channels)
    plan: dict[str, list[int]] = {site: [] for site in statistics}
    for *_, channel, site in ranked:
        if wanted and kept[site] > least[site]:
            plan[site].append(channel)
            kept[site] -= 1
            wanted -= 1
    return {site: np.array(sorted(channels), np.int64) for site, channels in plan.items()}


def assert_plans_equal(first: Plan, second: Plan) -> None:
    assert list(first) == list(second)
    for site, removed in first.items():
        assert removed.tolist() == second[site].tolist(), site


def assert_sound(plan: Plan, statistics: Statistics, rule: WidthRule) -> None:
    """Assert what every plan of every policy must satisfy."""
    assert list(plan) == list(statistics)
    for site, removed in plan.items():
        channels = statistics[site].zeros.shape[1]
        kept = channels - len(removed)
        assert removed.tolist() == sorted(set(removed.tolist()))
        assert not len(removed) or (removed[0] >= 0 and removed[-1] < channels)
        assert kept >= min(rule.min_channels, channels)
        assert kept >= 1
        assert kept % rule.round_to == 0 or kept == channels


def one_class(**sites: list[tuple[int, float]]) -> Statistics:
    """Return statistics of one class with 100 activations a channel, from (zeros, mean) of each channel."""
    return {
        site: SiteStatistics(
            np.array([[zeros for zeros, _ in channels]]),
            np.array([[100 * mean for _, mean in channels]]),
            np.array([100]),
        )
        for site, channels in sites.items()
    }


BY_MEAN = criterion_of("mean")
BY_TAYLOR = criterion_of("taylor")
NORMS = {f"site{number}": np.array([5.0, 0.1, 3.0, 3.0, 0.2, 9.0, 1.0, 2.0, 0.0]) for number in range(4)}


def every_criterion(statistics: Statistics) -> dict[str, Criterion]:
    norms = {site: NORMS[site][: values.zeros.shape[1]] for site, values in statistics.items()}
    return {name: criterion_of(name, 3, lambda: norms) for name in CRITERIA}


def with_sensitivities(statistics: Statistics) -> Statistics:
    return {site: replace(values, sensitivity=np.sqrt(values.magnitude)) for site, values in statistics.items()}


Flops = Callable[[np.ndarray], np.ndarray]


def flops_with(statistics: Statistics, heads: Sequence[int]) -> Flops:
    """Return FLOPs of a chain of layers, one a site, with heads of so many rows."""
    widths = np.array([values.zeros.shape[1] for values in statistics.values()])

    def flops(removed: np.ndarray) -> np.ndarray:
        left = widths - removed
        return 9 * left[:, 0] + (left[:, 1:] * left[:, :-1]).sum(axis=1) + left[:, -1] * np.array(heads)

    return flops


def target_of(share: float, flops: Flops, members: int, sites: int) -> float:
    return share * float(flops(np.zeros((members, sites), np.int64)).max())


def count_of(plan: Plan) -> int:
    return sum(len(removed) for removed in plan.values())


def assert_nested(nested: list[Plan], plan: Plan) -> None:
    """Assert that each step contains the one before, and that the last is the plan."""
    assert_plans_equal(nested[-1], plan)
    for smaller, larger in pairwise(nested):
        assert list(smaller) == list(larger)
        for site, removed in smaller.items():
            assert removed.dtype == larger[site].dtype
            assert removed.tolist() == sorted(removed.tolist())
            assert set(removed.tolist()) <= set(larger[site].tolist())
