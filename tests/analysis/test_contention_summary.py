"""Means, intervals and ratios of repeats, against direct computations."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from sensai.analysis.contention_summary import ratios, summary

COLUMNS = {
    **{"task": "str", "way": "str", "n": "int64", "repeats": "int64", "images_per_s": "float64", "low": "float64"},
    **{"high": "float64", "vs_in_turn": "float64", "vs_in_turn_low": "float64", "vs_in_turn_high": "float64"},
    **{"start_s": "float64", "step_ms": "float64", "data_share": "float64", "peak_mib": "float64", "threads": "int64"},
}
SETTINGS = [("training", n, way) for n in (1, 2) for way in ("in_turn", "naive", "engine")]


def measured(repeats: int, seed: int = 0, slow: float = 1.0) -> pd.DataFrame:
    """Return a table of random values in which the first repeat takes `slow` times as long as it would."""
    generator = np.random.default_rng(seed)
    rows = []
    for repeat in range(repeats):
        for task, n, way in SETTINGS:
            speed, other = generator.lognormal(4, 0.3), generator.uniform(0.1, 0.9, 4)
            values = dict(zip(("start_s", "step_ms", "data_share", "peak_mib"), other, strict=True))
            values |= {"images_per_s": speed / (slow if repeat == 0 else 1), "threads": 2 * n}
            rows.append({"repeat": repeat, "task": task, "way": way, "n": n, **values})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("repeats", [2, 5])
def test_the_interval_is_students_of_the_logarithms(repeats: int) -> None:
    table = measured(repeats)
    found = summary(table)
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == COLUMNS
    assert list(zip(found["task"], found["n"], found["way"], strict=True)) == SETTINGS
    for _, row in found.iterrows():
        own = table[(table["way"] == row["way"]) & (table["n"] == row["n"])]
        logs = np.log(own["images_per_s"].to_numpy())
        bounds = t.interval(0.95, repeats - 1, logs.mean(), logs.std(ddof=1) / np.sqrt(repeats))
        np.testing.assert_allclose(row[["low", "high"]].astype(float), np.exp(bounds))
        assert row["images_per_s"] == pytest.approx(np.prod(own["images_per_s"]) ** (1 / repeats))
        assert row["start_s"] == pytest.approx(own["start_s"].mean())
        assert row["threads"] == 2 * row["n"]
        in_turn = table[(table["way"] == "in_turn") & (table["n"] == row["n"])]["images_per_s"].to_numpy()
        logs -= np.log(in_turn)
        assert row["vs_in_turn"] == pytest.approx(np.exp(logs.mean()))
        bounds = t.interval(0.95, repeats - 1, logs.mean(), logs.std(ddof=1) / np.sqrt(repeats) or 1e-300)
        np.testing.assert_allclose(row[["vs_in_turn_low", "vs_in_turn_high"]].astype(float), np.exp(bounds))


def test_one_repeat_has_no_interval() -> None:
    found = summary(measured(1))
    assert found[["images_per_s", "vs_in_turn"]].notna().all(axis=None)
    assert found[["low", "high", "vs_in_turn_low", "vs_in_turn_high"]].isna().all(axis=None)


@settings(max_examples=20)
@given(st.integers(2, 6), st.integers(0, 100), st.floats(0.1, 10))
def test_a_slow_repeat_changes_no_ratio(repeats: int, seed: int, slow: float) -> None:
    as_it_was, slowed = (ratios(measured(repeats, seed, factor), "naive") for factor in (1.0, slow))
    pd.testing.assert_frame_equal(as_it_was, slowed)


def test_ratios_are_of_the_same_task_and_number() -> None:
    table = measured(1).assign(images_per_s=[1.0, 2.0, 8.0, 10.0, 5.0, 100.0])
    both = pd.concat([table, table.assign(task="scoring", images_per_s=3.0)], ignore_index=True)
    found = ratios(both, "naive")
    assert found["ratio"].tolist() == pytest.approx([0.5, 1, 4, 2, 1, 20, *[1] * 6])
    assert found["task"].tolist() == ["training"] * 6 + ["scoring"] * 6
