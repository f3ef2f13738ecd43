"""Single image files: orientation, size, and broken ones refused with their names."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from sensai.data.images.decoding import decode, upright_size
from sensai.errors import InputError

# EXIF orientation -> the upright pixels of the stored ones, by the standard's table of first row and column.
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}


def stored(path: Path, orientation: int | None, **options: object) -> np.ndarray:
    """Write a file of noise in even blocks, which JPEG hardly changes, and return the stored pixels uint8 (h, w, 3)."""
    blocks = np.random.default_rng(0).integers(0, 256, (2, 3, 1), dtype=np.uint8)
    pixels = np.kron(blocks, np.ones((8, 8, 3), np.uint8)).astype(np.uint8)
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return pixels


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_images_are_read_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a.{suffix}"
    expected = UPRIGHT[orientation](stored(path, orientation, quality=100))
    pixels = decode(path)
    assert pixels.shape[1:] == upright_size(path) == expected.shape[:2]
    assert np.abs(pixels.transpose(1, 2, 0).astype(int) - expected).max() <= 6


@pytest.mark.parametrize("orientation", [None, 0, 9, 60000])
def test_an_orientation_that_is_none_turns_nothing(tmp_path: Path, orientation: int | None) -> None:
    expected = stored(tmp_path / "a.png", orientation)
    np.testing.assert_array_equal(decode(tmp_path / "a.png").transpose(1, 2, 0), expected)
    assert upright_size(tmp_path / "a.png") == (16, 24)


def test_broken_exif_does_not_break_the_image(tmp_path: Path) -> None:
    image = Image.new("RGB", (6, 4), (9, 8, 7))
    image.save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12 cut off", quality=100)
    assert decode(tmp_path / "a.jpg").shape == (3, 4, 6)
    assert upright_size(tmp_path / "a.jpg") == (4, 6)


def test_an_image_above_pillows_limit_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (30, 20)).save(tmp_path / "a.png")
    # Pillow warns above its limit, and refuses above twice as many pixels.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 299)
    for read in (decode, upright_size):
        with pytest.raises(
            InputError, match=r"a\.png' is too large: Image size \(600 pixels\) exceeds limit of 598 pixels$"
        ):
            read(tmp_path / "a.png")


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name, why in (
        ("none.png", "No such file"),
        ("folder.png", "Is a directory"),
        ("loop.png", "Too many levels"),
        ("x" * 300, "File name too long"),
    ):
        with pytest.raises(InputError, match=rf"^images: '.*' cannot be read \({why}"):
            decode(tmp_path / name, "images")


def encoded(suffix: str) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, suffix)
    return file.getvalue()


FORMATS = {
    name: encoded(name) for name in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO", "PCX", "DDS")
}


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=200, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_an_image_or_refused(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(FORMATS[name])
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=8)
    ):
        content[position] = value
    path = tmp_path_factory.getbasetemp() / f"damaged.{name.lower()}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        pixels = decode(path)
    except InputError as error:
        assert repr(str(path)) in str(error)  # noqa: PT017  (it need not be raised)
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape[0] == 3
        assert pixels.shape[1:] == upright_size(path)
