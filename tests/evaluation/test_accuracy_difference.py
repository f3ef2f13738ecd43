"""`Difference`: what an interval shows, and how many images would make it show more."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensai.evaluation.accuracy_difference import Difference


def around(difference: float, reach: float, images: int) -> Difference:
    """Return a difference whose interval reaches as far to both sides, as one over so many images does."""
    bound = reach / math.sqrt(images)
    return Difference(difference, difference - bound, difference + bound, images)


@given(
    difference=st.floats(0.001, 0.05),
    sign=st.sampled_from([1, -1]),
    reach=st.floats(0.5, 2),
    images=st.integers(30, 9999),
)
def test_as_many_images_as_it_names_decide_and_clearly_fewer_do_not(
    difference: float, sign: int, reach: float, images: int
) -> None:
    needed = around(sign * difference, reach, images).images_to_decide
    # The number is rounded up by less than a tenth.
    enough, too_few = (around(sign * difference, reach, int(number)) for number in (1.001 * needed + 1, 0.89 * needed))
    assert enough.is_gain if sign > 0 else enough.is_loss
    assert too_few.is_undecided
    assert not too_few.is_gain
    assert not too_few.is_loss


def test_the_bound_on_the_side_of_zero_counts() -> None:
    # The interval reaches 0.006 below an estimate of 0.004, so it takes 1.5 ** 2 times as many images.
    assert Difference(0.004, -0.002, 0.05, 10_000).images_to_decide == 23_000
    assert Difference(-0.004, -0.05, 0.002, 10_000).images_to_decide == 23_000


def test_no_number_of_images_decides_a_difference_of_zero() -> None:
    assert Difference(0.0, -0.01, 0.01, 100).images_to_decide == math.inf


@pytest.mark.parametrize(
    ("low", "high", "kind"), [(0.01, 0.03, "is_gain"), (-0.03, -0.01, "is_loss"), (-0.01, 0.02, "is_undecided")]
)
def test_an_interval_shows_one_of_three_things(low: float, high: float, kind: str) -> None:
    found = Difference((low + high) / 2, low, high, 100)
    assert [name for name in ("is_gain", "is_loss", "is_undecided") if getattr(found, name)] == [kind]
    turned = -found
    assert (turned.difference, turned.low, turned.high) == (-found.difference, -high, -low)
    assert turned.is_gain == found.is_loss


def test_equal_answers_to_all_images_leave_no_doubt() -> None:
    same = Difference(0.0, 0.0, 0.0, 100)
    assert (same.is_gain, same.is_loss, same.is_undecided) == (False, False, False)
    # Not the negative of zero, which would be shown as -0.0.
    turned = -same
    assert str(turned.difference) == "0.0"
