"""Contrasts over seeds and images: estimates equal direct computations, intervals hold the truth as often as they say."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, ttest_ind, ttest_rel

from sensai.analysis.contrasts import Contrast, Planned, contrast, crossed_contrast, planned_contrasts
from sensai.analysis.differences import IncomparableError


def studies(
    seeds: tuple[int, int], images: int, of_seeds: float, shift: float, number: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the answers of two ways in a probit model: images, ways on images and seeds are normal random effects."""
    generator = np.random.default_rng(number)
    shared = generator.normal(0, 1, images)
    first, second = (
        generator.normal(0, 1, (count, images))
        < shared + generator.normal(0, 0.5, images) + generator.normal(0, of_seeds, (count, 1)) + advantage
        for count, advantage in zip(seeds, (shift, 0.0), strict=True)
    )
    return first, second


def truth(of_seeds: float, shift: float) -> float:
    """Return the difference of the accuracies over all seeds and images."""
    return float(norm.cdf(shift / np.sqrt(1 + 1 + 0.25 + of_seeds**2)) - 0.5)


def test_the_variance_is_that_of_the_components_summed_by_hand() -> None:
    right_a, right_b = studies((3, 4), 50, 0.3, 0.2)
    found = crossed_contrast(right_a, right_b)
    by_image = [right_a[:, i].mean() - right_b[:, i].mean() for i in range(50)]
    variance = of_images = np.var(by_image, ddof=1) / 50
    uncertain = of_images**2 / 49
    for right in (right_a, right_b):
        seeds = len(right)
        of_seed = 50 * sum((right[s].mean() - right.mean()) ** 2 for s in range(seeds)) / (seeds - 1)
        of_rest = sum(
            (right[s, i] - right[s].mean() - right[:, i].mean() + right.mean()) ** 2
            for s in range(seeds)
            for i in range(50)
        ) / ((seeds - 1) * 49)
        variance += max((of_seed - of_rest) / (seeds * 50), 0)
        uncertain += (of_seed / (seeds * 50)) ** 2 / (seeds - 1)
    assert found.difference == pytest.approx(right_a.mean() - right_b.mean())
    assert found.standard_error == pytest.approx(np.sqrt(variance))
    assert found.degrees_of_freedom == pytest.approx(variance**2 / uncertain)
    assert (found.seeds_a, found.seeds_b, found.images) == (3, 4, 50)


def test_single_runs_are_compared_by_the_paired_t_test_over_images() -> None:
    right_a, right_b = studies((1, 1), 400, 0.0, 0.3)
    expected = ttest_rel(right_a[0].astype(float), right_b[0].astype(float))
    found = crossed_contrast(right_a, right_b, 0.9)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.9)))


def test_where_images_do_not_differ_it_is_welchs_t_test_over_seeds() -> None:
    """Seeds that answer all images alike leave nothing to the images."""
    right_a = np.repeat([[True], [True], [False], [True]], 200, axis=1)
    right_b = np.repeat([[False], [True], [False]], 200, axis=1)
    expected = ttest_ind(right_a.mean(1), right_b.mean(1), equal_var=False)
    found = crossed_contrast(right_a, right_b)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.degrees_of_freedom == pytest.approx(expected.df)


def test_the_squared_standard_error_is_the_variance_of_the_estimate() -> None:
    found = [crossed_contrast(*studies((5, 5), 300, 0.15, 0.1, number)) for number in range(600)]
    estimated = np.mean([each.standard_error**2 for each in found])
    # 600 estimates tell their variance within 6 %; the part of the seeds is at least 0, which adds a little.
    assert estimated == pytest.approx(np.var([each.difference for each in found]), rel=0.15)


@pytest.mark.parametrize("seeds", [(2, 2), (3, 3), (5, 5), (3, 5), (10, 10)])
@pytest.mark.parametrize("of_seeds", [0.0, 0.1])
def test_an_interval_of_95_percent_holds_the_truth_in_about_95_percent(seeds: tuple[int, int], of_seeds: float) -> None:
    held = [
        each.low <= truth(of_seeds, 0.1) <= each.high
        for each in (crossed_contrast(*studies(seeds, 300, of_seeds, 0.1, number)) for number in range(500))
    ]
    # A standard error is 0.01. Where seeds make no difference, few of them make the interval wider than it must be.
    assert 0.92 <= np.mean(held) <= 0.995


def test_an_interval_over_images_alone_would_be_too_narrow() -> None:
    several, one = [], []
    for number in range(300):
        right_a, right_b = studies((5, 5), 300, 0.3, 0.1, number)
        for held, found in (
            (several, crossed_contrast(right_a, right_b)),
            (one, crossed_contrast(right_a[:1], right_b[:1])),
        ):
            held.append(found.low <= truth(0.3, 0.1) <= found.high)
    assert np.mean(several) > 0.92
    assert np.mean(one) < 0.75


def test_swapped_ways_give_the_negative_and_a_way_does_not_differ_from_itself() -> None:
    right_a, right_b = studies((3, 5), 100, 0.2, 0.2)
    there, back = crossed_contrast(right_a, right_b), crossed_contrast(right_b, right_a)
    assert (there.difference, there.low, there.high) == pytest.approx((-back.difference, -back.high, -back.low))
    assert there.p_value == pytest.approx(back.p_value)
    itself = crossed_contrast(right_a, right_a)
    assert itself.difference == 0
    assert itself.p_value == 1


@pytest.mark.filterwarnings("error")
def test_without_any_spread_the_interval_is_the_estimate() -> None:
    all_right, all_wrong = np.ones((2, 10), bool), np.zeros((3, 10), bool)
    found = crossed_contrast(all_right, all_wrong)
    assert (found.low, found.high, found.p_value) == (1, 1, 0)
    found = crossed_contrast(all_right, all_right)
    assert (found.low, found.high, found.p_value) == (0, 0, 1)


def test_the_interval_leaves_out_zero_where_the_p_value_is_below_the_level() -> None:
    for number in range(60):
        right_a, right_b = studies((3, 3), 200, 0.1, 0.3, number)
        for confidence in (0.8, 0.95):
            found = crossed_contrast(right_a, right_b, confidence)
            assert (found.p_value < 1 - confidence) is not (found.low <= 0 <= found.high)


def rows(**ways: np.ndarray) -> pd.DataFrame:
    """Return rows as shards have them, of ways by name; labels are all 1."""
    return pd.DataFrame(
        [
            {"way": way, "seed": seed, "labels": np.ones(len(each), np.uint16), "answers": each.astype(np.uint16)}
            for way, right in ways.items()
            for seed, each in enumerate(right)
        ]
    )


def test_rows_are_compared_by_their_right_answers() -> None:
    right_a, right_b = studies((3, 2), 80, 0.1, 0.3)
    table = rows(a=right_a, b=right_b)
    assert contrast(table[table["way"] == "a"], table[table["way"] == "b"]) == crossed_contrast(right_a, right_b)


def test_planned_contrasts_are_corrected_together() -> None:
    right_a, right_b = studies((4, 4), 400, 0.02, 0.3)
    right_c, right_d = studies((4, 4), 400, 0.02, 0.1, 1)
    planned = [
        Planned("a less b", {"way": "a"}, {"way": "b"}),
        Planned("c less d", {"way": "c"}, {"way": "d"}),
        Planned("a less d", {"way": "a"}, {"way": "d"}),
    ]
    table = planned_contrasts(rows(a=right_a, b=right_b, c=right_c, d=right_d), planned)
    assert table["contrast"].tolist() == ["a less b", "c less d", "a less d"]
    assert table.loc[1, "difference"] == crossed_contrast(right_c, right_d).difference
    # Holm: the smallest of three counts three times, the next twice; none is below one before it.
    order = np.argsort(table["p_value"].to_numpy())
    holm = np.maximum.accumulate(table["p_value"].to_numpy()[order] * [3, 2, 1]).clip(max=1)
    assert table["p_holm"].to_numpy()[order] == pytest.approx(holm)


def test_no_contrasts_give_the_same_columns() -> None:
    one = planned_contrasts(rows(a=np.eye(3, 5)), [Planned("a less a", {"way": "a"}, {"way": "a"})])
    none = planned_contrasts(rows(a=np.eye(3, 5)), [])
    assert none.empty
    pd.testing.assert_series_equal(none.dtypes, one.dtypes)
    assert set(Contrast.__annotations__) < set(none.columns)


def test_what_cannot_be_compared_is_refused_with_the_name_of_the_contrast() -> None:
    table = rows(a=np.eye(3, 5), b=np.eye(2, 5))
    with pytest.raises(IncomparableError, match="contrast 'x': there must be one row a seed"):
        planned_contrasts(table, [Planned("x", {"way": "a"}, {"way": "c"})])
    with pytest.raises(IncomparableError, match="one row a seed"):
        contrast(pd.concat([table, table]), table[table["way"] == "b"])
    other = table.assign(labels=[*table["labels"][:-1], np.zeros(5, np.uint16)])
    with pytest.raises(IncomparableError, match="their labels differ"):
        contrast(other[other["way"] == "a"], other[other["way"] == "b"])
    with pytest.raises(IncomparableError, match="at least two"):
        crossed_contrast(np.ones((2, 1), bool), np.ones((2, 1), bool))
