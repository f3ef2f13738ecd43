"""Means and intervals of `contention` over its repeats. R repeats.

Speeds vary by factors, so their means are geometric. The intervals are Student's t on the logarithms of the R repeats, with
R - 1 degrees of freedom: `exp(mean +- t s / sqrt(R))`. A ratio of two ways is taken within each repeat, so what slows a whole
repeat down does not widen its interval.
"""

import numpy as np
import pandas as pd
from scipy.stats import t

_SETTING = ["task", "way", "n"]
_CONFIDENCE = 0.95


def summary(measured: pd.DataFrame) -> pd.DataFrame:
    """Return a row a setting, in the order in which settings first appear.

    Args:
        measured: a row a repeat and setting, as the run's table has them: `repeat`, `task`, `way`, `n`, `images_per_s`,
            `start_s`, `step_ms`, `data_share`, `peak_mib`, `threads`.

    Returns:
        Columns `task`, `way`, `n`, `repeats`; `images_per_s` with the bounds `low` and `high`; `vs_in_turn`, the ratio of
        `images_per_s` to that in turn, with `vs_in_turn_low` and `vs_in_turn_high`; the means of `start_s`, `step_ms`,
        `data_share` and `peak_mib`; `threads`. Bounds are NaN where there is one repeat.
    """
    grouped = measured.groupby(_SETTING, sort=False)
    means = grouped.agg(
        repeats=("repeat", "size"),
        **{name: (name, "mean") for name in ("start_s", "step_ms", "data_share", "peak_mib")},
        threads=("threads", "first"),
    )
    speeds = _with_interval(grouped["images_per_s"], "images_per_s", "low", "high")
    in_turn = ratios(measured, "in_turn").set_index(_SETTING)
    compared = in_turn.rename(columns={"ratio": "vs_in_turn", "low": "vs_in_turn_low", "high": "vs_in_turn_high"})
    return pd.concat([means["repeats"], speeds, compared, means.drop(columns="repeats")], axis=1).reset_index()


def ratios(measured: pd.DataFrame, other: str) -> pd.DataFrame:
    """Return the speed of every way as a ratio to that of another way, of the same task and number in the same repeat.

    Args:
        measured: as of `summary`.
        other: the way that they are compared with.

    Returns:
        A row a setting: `task`, `way`, `n`, `ratio`, `low`, `high`. Bounds are NaN where there is one repeat.
    """
    keys = ["repeat", "task", "n"]
    rival = measured.loc[measured["way"] == other, [*keys, "images_per_s"]]
    both = measured.merge(rival, on=keys, suffixes=("", "_of_other"))
    quotient = both["images_per_s"] / both["images_per_s_of_other"]
    grouped = quotient.groupby([both[name] for name in _SETTING], sort=False)
    return _with_interval(grouped, "ratio", "low", "high").reset_index()


def _with_interval(grouped: "pd.api.typing.SeriesGroupBy", *names: str) -> pd.DataFrame:
    """Return the geometric mean of every group with the bounds of its interval, as columns of these names."""
    logs = grouped.agg(
        mean=lambda values: np.log(values).mean(), error=lambda values: np.log(values).sem(), count="size"
    )
    reach = logs["error"] * t.ppf((1 + _CONFIDENCE) / 2, logs["count"] - 1)
    bounds = [logs["mean"], logs["mean"] - reach, logs["mean"] + reach]
    return pd.concat([np.exp(each) for each in bounds], axis=1, keys=names)
