"""Methods compared over repeats: results equal direct computation, error rates are as promised, texts match the numbers."""

import itertools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, t
from statsmodels.stats.power import TTestIndPower

from sensai.analysis import resampling
from sensai.analysis.grouping_results import compare, summary

COMPARED = ["n_groups", "ratio", "method_a", "method_b", "measure", "difference", "low", "high"]
COMPARED += ["p_value", "p_holm", "repeats", "repeats_needed", "verdict"]
SUMMARISED = ["n_groups", "ratio", "method", "measure", "mean", "low", "high", "repeats", "spread"]


def cells(
    values: Mapping[str, Sequence[float]], n_groups: int = 2, seeds: Mapping[str, Sequence[int]] | None = None
) -> pd.DataFrame:
    """Return the cells of one setting; a method's repeats have seeds 0, 1, ... by default."""
    return pd.DataFrame(
        [
            {"method": method, "n_groups": n_groups, "ratio": 0.5, "seed": seed, "share": value}
            for method, repeats in values.items()
            for seed, value in zip((seeds or {}).get(method, range(len(repeats))), repeats, strict=True)
        ]
    )


def answered(right: Mapping[str, np.ndarray]) -> tuple[pd.DataFrame, np.ndarray]:
    """Return cells and answers from a bool (R, N) for each method."""
    return cells({method: each.mean(1).tolist() for method, each in right.items()}), np.concatenate(
        list(right.values())
    )


def only(frame: pd.DataFrame) -> pd.Series:
    (row,) = (row for _, row in frame.iterrows())
    return row


def of_all_permutations(first: list[int], second: list[int]) -> Fraction:
    """Return twice the smaller tail of the differences of means."""
    together = [Fraction(value) for value in first + second]

    def difference(chosen: tuple[int, ...]) -> Fraction:
        inside = sum(together[place] for place in chosen)
        return inside / len(first) - (sum(together) - inside) / len(second)

    found = [difference(chosen) for chosen in itertools.combinations(range(len(together)), len(first))]
    seen = difference(tuple(range(len(first))))
    tails = sum(each >= seen for each in found), sum(each <= seen for each in found)
    return min(Fraction(2 * min(tails), len(found)), Fraction(1))


few = st.lists(st.integers(0, 9), min_size=2, max_size=4)


@settings(deadline=None, max_examples=5)
@given(st.lists(st.tuples(few, few), min_size=1, max_size=6))
def test_the_p_value_is_that_of_all_permutations(pairs: list[tuple[list[int], list[int]]]) -> None:
    frame = pd.concat(
        [
            cells({name: [value / 7 for value in values] for name, values in zip("ab", pair, strict=True)}, number)
            for number, pair in enumerate(pairs)
        ]
    )
    expected = [float(of_all_permutations(*pair)) for pair in pairs]
    assert compare(frame, "share", 0.1)["p_value"].tolist() == pytest.approx(expected)


def test_sums_that_are_alike_but_for_rounding_are_ties() -> None:
    first, second = [320, 320, 322, 325], [322, 325, 322, 321]
    frame = cells({"a": [count / 360 for count in first], "b": [count / 360 for count in second]})
    expected = float(of_all_permutations(first, second))
    assert only(compare(frame, "share", 0.1))["p_value"] == pytest.approx(expected)


def test_five_repeats_can_decide_one_comparison() -> None:
    row = only(compare(cells({"a": [5, 6, 7, 8, 9], "b": [0, 1, 2, 3, 4]}), "share", 0.1))
    assert row["p_value"] == row["p_holm"] == pytest.approx(2 / 252)
    assert row["verdict"] == "differs"


def test_many_permutations_are_drawn_at_random() -> None:
    values = np.random.default_rng(0).normal(size=(2, 12))
    row = only(compare(cells({"a": values[0] + 0.8, "b": values[1]}), "share", 0.1))
    assert row["p_value"] == pytest.approx(0.0035, abs=0.002)  # of Student's test


def test_holm_corrects_for_all_rows() -> None:
    generator = np.random.default_rng(3)
    frame = pd.concat(
        [
            cells({method: generator.normal(mean, 1, 5) for mean, method in enumerate("abc")}, n_groups)
            for n_groups in (2, 3)
        ]
    )
    found = compare(frame, "share", 0.1)
    assert len(found) == 6
    expected, last = {}, 0.0
    for rank, (place, p_value) in enumerate(found["p_value"].sort_values(kind="stable").items()):
        last = max(last, min(p_value * (6 - rank), 1.0))
        expected[place] = last
    assert found["p_holm"].to_dict() == pytest.approx(expected)


def test_a_row_a_pair_and_setting() -> None:
    frame = pd.concat([cells({"z": [1, 2], "a": [3, 5], "k": [0, 0]}, 5), cells({"z": [1, 3], "k": [1, 2]}, 2)])
    found = compare(frame, "share", 0.1)
    assert list(found.columns) == COMPARED
    assert found[["n_groups", "method_a", "method_b"]].to_numpy().tolist() == [
        [2, "z", "k"],
        [5, "z", "a"],
        [5, "z", "k"],
        [5, "a", "k"],
    ]
    assert found["difference"].tolist() == [0.5, -2.5, 1.5, 4.0]
    assert set(found["ratio"]) == {0.5}
    assert set(found["measure"]) == {"share"}
    own = summary(frame, "share")
    assert list(own.columns) == SUMMARISED
    assert own["mean"].tolist() == [2.0, 1.5, 1.5, 4.0, 0.0]
    assert own["spread"].tolist() == pytest.approx([2**0.5, 0.5**0.5, 0.5**0.5, 2**0.5, 0])
    assert own["repeats"].tolist() == [2] * 5


def test_one_method_or_none_gives_the_same_columns() -> None:
    full = compare(cells({"a": [1, 2], "b": [2, 3]}), "share", 0.1)
    alone = cells({"a": [1, 2]})
    for frame in (alone, alone[:0]):
        pd.testing.assert_frame_equal(compare(frame, "share", 0.1), full[:0])
        assert list(summary(frame, "share").columns) == SUMMARISED


@pytest.mark.parametrize("same_seeds", [True, False])
def test_the_interval_is_that_of_images_and_seeds_drawn_again(same_seeds: bool) -> None:
    generator = np.random.default_rng(1)
    hard = generator.random(80)
    right = {name: hard + generator.normal(0, 0.3, (8, 80)) > bound for name, bound in (("a", 0.3), ("b", 0.4))}
    frame, stacked = answered(right)
    if not same_seeds:
        frame.loc[frame["method"] == "b", "seed"] += 8
    found = only(compare(frame, "share", 0.1, stacked))

    means = np.empty(4000)
    for number in range(len(means)):
        images, seeds_a, seeds_b = (generator.integers(0, size, size) for size in (80, 8, 8))
        seeds_b = seeds_a if same_seeds else seeds_b
        means[number] = right["a"][seeds_a][:, images].mean() - right["b"][seeds_b][:, images].mean()
    tail = norm.sf(t.isf(0.025, 7) * math.sqrt(8 / 7))
    assert (found["low"], found["high"]) == pytest.approx(np.quantile(means, [tail, 1 - tail]), abs=0.02)
    assert found["difference"] == pytest.approx(right["a"].mean() - right["b"].mean())


def test_what_repeats_of_one_seed_share_is_not_uncertain() -> None:
    base = np.arange(8) / 8
    paired = only(compare(cells({"a": base + 1, "b": base}), "share", 0.1))
    assert (paired["low"], paired["high"]) == pytest.approx((1, 1))
    seeds = {"b": range(8, 16)}
    own = only(compare(cells({"a": base + 1, "b": base}, seeds=seeds), "share", 0.1))
    assert own["low"] < 0.7
    assert own["high"] > 1.3


def test_cells_may_stand_in_any_order() -> None:
    generator = np.random.default_rng(2)
    frame, right = answered({name: generator.random((6, 50)) < 0.8 for name in "ab"})
    order = np.concatenate([np.r_[5:-1:-1], np.r_[9:12], np.r_[6:9]])
    pd.testing.assert_frame_equal(
        compare(frame.iloc[order], "share", 0.1, right[order]), compare(frame, "share", 0.1, right)
    )


shares = st.lists(st.integers(0, 1000).map(lambda value: value / 1000), min_size=1, max_size=4)


@settings(deadline=None, max_examples=6)
@given(shares, shares, st.integers(-5, 5))
def test_properties(first: list[float], second: list[float], shift: int) -> None:
    frame = cells({"a": first, "b": second, "c": first[::-1]})
    shifted, swapped = frame.assign(share=frame["share"] + shift), frame.iloc[::-1]
    settings = pd.concat([frame, shifted.assign(n_groups=3), swapped.assign(n_groups=4)])
    found = compare(settings, "share", 0.1)
    assert found["p_value"].between(0, 1, inclusive="right").all()
    assert (found["p_holm"] >= found["p_value"]).all()
    assert found["difference"].between(found["low"], found["high"]).all()
    own = summary(settings, "share")
    assert own["mean"].between(own["low"], own["high"]).all()

    as_is, moved, backwards = (found[found["n_groups"] == count].reset_index(drop=True) for count in (2, 3, 4))
    backwards = backwards[::-1].reset_index(drop=True)
    numbers = ["p_value", "p_holm", "repeats", "repeats_needed"]
    for other, sign in ((moved, 1), (backwards, -1)):
        pd.testing.assert_frame_equal(other[numbers], as_is[numbers])
        np.testing.assert_allclose(other["difference"], sign * as_is["difference"], atol=1e-12)
    np.testing.assert_allclose(moved[["low", "high"]], as_is[["low", "high"]], atol=1e-12)
    if len(first) == len(second):
        np.testing.assert_allclose(backwards[["low", "high"]], -as_is[["high", "low"]], atol=1e-12)


def test_methods_that_do_not_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "RESAMPLES", 999)
    values = np.random.default_rng(0).normal(size=(100, 2, 5))
    frame = pd.concat([cells(dict(zip("ab", pair, strict=True)), number) for number, pair in enumerate(values)])
    found = compare(frame, "share", 1.0)
    held = ((found["low"] <= 0) & (found["high"] >= 0)).mean()
    assert 0.86 <= held <= 0.98  # 92 % of many
    assert 0.01 <= (found["p_value"] < 0.05).mean() <= 0.1
    assert not (found["verdict"] == "differs").any()


def test_answers_of_methods_that_do_not_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "RESAMPLES", 999)
    generator = np.random.default_rng(0)
    frames, right = [], []
    for number in range(50):
        hard = generator.normal(1, 1, 100)
        # Each method has images that it does better, as another grouping has, and repeats that do better.
        each = [hard + generator.normal(0, 0.7, 100) + generator.normal(0, 0.2, (5, 1)) > 0 for _ in "ab"]
        frame, stacked = answered(dict(zip("ab", each, strict=True)))
        frames.append(frame.assign(n_groups=number))
        right.append(stacked)
    found = compare(pd.concat(frames), "share", 0.1, np.concatenate(right))
    assert ((found["low"] <= 0) & (found["high"] >= 0)).mean() >= 0.92


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("repeats", [1, 2, 5, 11])
def test_methods_without_spread_differ_by_exactly_that(repeats: int) -> None:
    frame = cells({"a": [0.1] * repeats, "b": [0.3] * repeats, "c": [0.3] * (repeats + 1)})
    found = compare(frame, "share", 0.001)
    for _, row in found.iterrows():
        assert row["low"] == row["difference"] == row["high"]
    np.testing.assert_allclose(found["difference"], [-0.2, -0.2, 0], atol=1e-15)
    assert found["p_value"].tolist()[2] == 1
    own = summary(frame, "share")
    assert (own["low"] == own["mean"]).all()
    assert (own["mean"] == own["high"]).all()


def test_enough_repeats_tell_methods_without_spread_apart() -> None:
    frame = cells({"a": [0.1] * 6, "b": [0.3] * 6, "c": [0.3] * 6})
    assert compare(frame, "share", 0.001)["verdict"].tolist() == [
        "differs",
        "differs",
        "no difference larger than 0 shown",
    ]


@pytest.mark.filterwarnings("error")
def test_one_repeat_decides_nothing() -> None:
    row = only(compare(cells({"a": [0.9], "b": [0.1]}), "share", 0.005))
    assert (row["p_value"], row["repeats"], row["repeats_needed"]) == (1, 1, 4)
    assert row["verdict"] == "not enough samples, 3 more needed"
    assert only(compare(cells({"a": [0.9], "b": range(30)}), "share", 0.005))["p_value"] == 1
    assert math.isnan(summary(cells({"a": [0.9]}), "share")["spread"][0])


def test_a_difference_that_may_be_one_of_these_images_only() -> None:
    better, worse = np.arange(100) >= 10, np.arange(100) >= 12
    frame, right = answered({"a": np.tile(better, (12, 1)), "b": np.tile(worse, (12, 1))})
    row = only(compare(frame, "share", 0.005, right))
    assert row["p_holm"] < 0.001
    # The images of all repeats are the same: 2 of 100 that differ are those of one repeat.
    assert row["low"] == 0
    assert row["high"] == pytest.approx(0.05)
    assert row["verdict"] == "not enough samples, 1 more needed"


@pytest.mark.filterwarnings("error")
def test_a_single_image() -> None:
    frame, right = answered({"a": np.ones((5, 1), bool), "b": np.zeros((5, 1), bool)})
    row = only(compare(frame, "share", 0.1, right))
    assert row["low"] == row["difference"] == row["high"] == 1


def test_what_the_verdicts_say() -> None:
    base = np.arange(12) % 4 * 0.001
    frame = cells({"a": base + 0.0003, "b": base, "c": base + 0.02})
    verdicts = compare(frame, "share", 0.004)["verdict"].tolist()
    assert verdicts == ["no difference larger than 0.0003 shown", "differs", "differs"]
    # With the same seeds these intervals are of no width, and yet so few repeats would not have shown a difference.
    assert (
        compare(frame[frame["seed"] < 3], "share", 0.004)["verdict"].tolist()[0] == "not enough samples, 2 more needed"
    )
    assert compare(frame, "share", 0.0002)["verdict"].tolist()[0].startswith("not enough samples, ")


@pytest.mark.parametrize(
    ("bound", "words"), [(0.00123, "0.0013"), (0.2, "0.2"), (0.0999, "0.1"), (1234567.0, "1300000")]
)
def test_a_bound_is_rounded_up_for_reading(bound: float, words: str) -> None:
    found = compare(cells({"a": [bound, 0, 0, bound], "b": [0.0, -bound, -bound, 0.0]}), "share", 2 * bound, power=0.1)
    assert only(found)["verdict"] == f"no difference larger than {words} shown"


@pytest.mark.parametrize(("relevant", "methods"), [(0.5, "ab"), (1.0, "ab"), (0.5, "abcd"), (2.0, "abc")])
def test_the_repeats_needed_are_those_of_the_t_test(relevant: float, methods: str) -> None:
    frame = cells({method: [-1, 0, 1] for method in methods})
    level = 0.05 / math.comb(len(methods), 2)
    exact = TTestIndPower().solve_power(relevant, alpha=level, power=0.9)
    needed = compare(frame, "share", relevant, power=0.9)["repeats_needed"]
    assert (needed - exact).between(-0.5, 1).all()


def test_fewer_repeats_are_never_needed_than_the_permutation_test_needs() -> None:
    frame = cells({method: [-1, 0, 1] for method in "abcd"})
    # 2/252 is less than 0.05 / 6, and 2/70 is not.
    assert set(compare(frame, "share", 100.0)["repeats_needed"]) == {5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relevant": 0.0}, "relevant must be over 0, not 0.0"),
        ({"relevant": math.nan}, "relevant must be over 0, not nan"),
        ({"cells": cells({"a": [0.5, math.nan]})}, "share must be finite in every cell"),
        ({"cells": cells({"a": [1, 0]}, seeds={"a": [3, 3]})}, "a cell must appear once"),
        ({"right": np.array([[True], [True]])}, "right must have one row a cell, in their order, and means .* share"),
        ({"right": np.array([[True]])}, "right must have one row a cell"),
    ],
)
def test_bad_input(changes: dict, message: str) -> None:
    arguments = {"cells": cells({"a": [1, 0]}), "measure": "share", "relevant": 0.1} | changes
    with pytest.raises(ValueError, match=message):
        compare(**arguments)
