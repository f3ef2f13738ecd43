"""Accuracies are rounded as people round them."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensai.analysis.rounding import rounded_accuracy


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        *(
            (0.5305, 3, "0.531"),
            (0.5715, 3, "0.572"),
            (0.81645, 4, "0.8165"),
            (0.00005, 4, "0.0001"),
            (0.00004, 4, "0.0000"),
        ),
        *((1.0, 4, "1.0000"), (0.99996, 4, "1.0000"), (-0.00005, 4, "-0.0001"), (np.mean([0.53, 0.531]), 3, "0.531")),
        *((float("nan"), 4, ""), (pd.NA, 4, "")),
    ],
)
def test_halves_go_up(value: float, digits: int, text: str) -> None:
    assert rounded_accuracy(value, digits) == text


@given(st.integers(1, 10_000), st.integers(1, 10), st.data())
def test_a_mean_of_shares_is_rounded_as_its_fraction(images: int, repeats: int, data: st.DataObject) -> None:
    right = data.draw(st.lists(st.integers(0, images), min_size=repeats, max_size=repeats))
    exact = Fraction(sum(right), images * repeats)
    expected = Decimal(int(exact * 10_000 + Fraction(1, 2))).scaleb(-4)
    assert rounded_accuracy(float(np.mean([count / images for count in right]))) == f"{expected:.4f}"
