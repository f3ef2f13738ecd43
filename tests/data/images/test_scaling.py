"""Single images are scaled to exactly the pixels that torch gives those of a training set."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sensai.data.images.scaling import scaled

# torch fails on colour images that are one pixel wide.
sides = st.integers(2, 90)


def by_torch(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return F.interpolate(torch.from_numpy(images), size, mode="bilinear", antialias=True).numpy()


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(st.integers(1, 2), st.sampled_from([1, 3]), sides, sides),
    st.tuples(sides, sides),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_every_size_has_the_pixels_of_torch(
    shape: tuple[int, ...], size: tuple[int, int], seed: int, extreme: bool
) -> None:
    images = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    if extreme:
        images = np.where(images < 128, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(scaled(images, size), by_torch(images, size))


@pytest.mark.parametrize("size", [(256, 341), (32, 32), (2, 2)])
def test_a_photograph_has_the_pixels_of_torch(size: tuple[int, int]) -> None:
    photograph = np.random.default_rng(0).integers(0, 256, (1, 3, 375, 500), np.uint8)
    np.testing.assert_array_equal(scaled(photograph, size), by_torch(photograph, size))
