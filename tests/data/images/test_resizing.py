"""Images are fitted to a size by one rule."""

import numpy as np
import pytest
from PIL import Image

from sensai.data.dataset_names import InputRule
from sensai.data.images.resizing import fit, target_channels, target_size
from sensai.errors import InputError


def pictures(count: int, channels: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (count, channels, height, width), dtype=np.uint8)


@pytest.mark.parametrize(
    ("requested", "rule", "native", "expected"),
    [
        (None, None, (8, 9), (8, 9)),
        (None, 32, (8, 9), (32, 32)),
        (None, 32, None, (32, 32)),
        (48, 32, (8, 9), (48, 48)),
        (16, None, None, (16, 16)),
    ],
)
def test_what_is_asked_for_goes_before_the_architecture_and_the_images(
    requested: int | None, rule: int | None, native: tuple[int, int] | None, expected: tuple[int, int]
) -> None:
    assert target_size(requested, InputRule(rule, None), native) == expected


def test_a_network_takes_none_smaller_than_it_can() -> None:
    with pytest.raises(InputError, match="image_size=16: the network takes 32 and more"):
        target_size(16, InputRule(64, None, smallest=32), (8, 8))
    assert target_size(32, InputRule(64, None, smallest=32), (8, 8)) == (32, 32)


def test_images_of_many_sizes_need_one() -> None:
    with pytest.raises(InputError, match=r"image_size='': the images differ in size; .* image_size=32"):
        target_size(None, InputRule(None, None), None)


def test_channels() -> None:
    assert [target_channels(InputRule(None, None), native) for native in (1, 3)] == [1, 3]
    assert [target_channels(InputRule(None, 3), native) for native in (1, 3)] == [3, 3]
    with pytest.raises(InputError, match="its images have 3 channels, the network takes 1"):
        target_channels(InputRule(None, 1), 3)


@pytest.mark.parametrize(("height", "width", "top", "left"), [(28, 28, 2, 2), (32, 28, 0, 2), (27, 26, 2, 3)])
def test_images_a_little_too_small_are_padded_evenly(height: int, width: int, top: int, left: int) -> None:
    images = pictures(3, 2, height, width)
    result = fit(images, (32, 32), 2)
    assert result.shape == (3, 2, 32, 32)
    assert np.array_equal(result[:, :, top : top + height, left : left + width], images)
    assert np.count_nonzero(result) == images.size


def test_images_of_the_right_size_are_left_alone() -> None:
    images = pictures(2, 3, 32, 32)
    assert np.array_equal(fit(images, (32, 32), 3), images)


def scaled_by_pillow(image: np.ndarray, height: int, width: int) -> np.ndarray:
    channels = [np.asarray(Image.fromarray(each).resize((width, height), Image.Resampling.BILINEAR)) for each in image]
    return np.stack(channels)


@pytest.mark.parametrize(
    ("height", "width", "scaled"),
    [
        (8, 8, (32, 32)),  # Much too small: enlarged.
        (64, 64, (32, 32)),
        (96, 48, (64, 32)),  # The shorter side fits, the longer is cropped at the centre.
        (48, 96, (32, 64)),
        (32, 64, (32, 64)),
        (28, 64, (32, 73)),  # Too small one way, too large the other: no padding.
        (24, 30, (32, 40)),  # Enlarged by more than a quarter.
    ],
)
def test_other_images_are_scaled_and_cropped_at_the_centre(height: int, width: int, scaled: tuple[int, int]) -> None:
    # Images are smooth, so that all bilinear scalers agree up to rounding.
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([rows * 200 / height + columns * 50 / width, 250 - columns * 200 / width]).astype(np.uint8)
    result = fit(image[None], (32, 32), 2)[0]
    large = scaled_by_pillow(image, *scaled).astype(int)
    top, left = round((scaled[0] - 32) / 2), round((scaled[1] - 32) / 2)
    assert result.shape == (2, 32, 32)
    assert np.abs(result.astype(int) - large[:, top : top + 32, left : left + 32]).max() <= 2


def test_scaling_down_averages_instead_of_skipping() -> None:
    stripes = np.zeros((1, 1, 128, 128), np.uint8)
    stripes[:, :, ::4] = 200
    inner = fit(stripes, (32, 32), 1)[:, :, 2:-2]
    # Every fourth row is bright; the two rows nearest to each new one are not.
    assert np.abs(inner.astype(int) - 50).max() < 15


def test_grey_images_are_repeated() -> None:
    images = pictures(2, 1, 28, 28)
    result = fit(images, (32, 32), 3)
    assert result.shape == (2, 3, 32, 32)
    assert all(np.array_equal(result[:, channel], fit(images, (32, 32), 1)[:, 0]) for channel in range(3))


def test_the_given_images_are_not_changed() -> None:
    images = pictures(2, 1, 28, 28)
    before = images.copy()
    fit(images, (32, 32), 3)
    fit(images, (20, 20), 1)
    assert np.array_equal(images, before)
