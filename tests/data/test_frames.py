"""Frames from files and streams: the pixels that were put in, and each wrong one named."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from sensai.data.fitting import fit
from sensai.data.frames import from_files, from_json_lines, from_raw
from sensai.errors import InputError

SHAPE = (4, 5, 3)


def lines(*contents: object) -> io.BytesIO:
    return io.BytesIO("\n".join(json.dumps(each) for each in contents).encode())


def picture(path: Path, seed: int, mode: str = "RGB", size: tuple[int, int] = (5, 4)) -> np.ndarray:
    """A lossless file of noise; returns uint8 (h, w) or (h, w, 3)."""
    channels = () if mode == "L" else (3,)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def test_a_folder_gives_all_of_its_images_in_order_and_nothing_else(tmp_path: Path) -> None:
    wanted = {name: picture(tmp_path / name, seed) for seed, name in enumerate(["b.png", "a/z.png", "a/c.bmp"])}
    for name in ("notes.txt", "film.mpg", "paper.pdf", "numbers.h5"):
        (tmp_path / name).write_text("no image")
    frames = list(from_files(tmp_path, SHAPE))
    assert [frame.name for frame in frames] == [str(tmp_path / name) for name in ("a/c.bmp", "a/z.png", "b.png")]
    for frame in frames:
        np.testing.assert_array_equal(frame.pixels, wanted[str(Path(frame.name).relative_to(tmp_path))])


def test_other_sizes_are_fitted_as_data_sets_are(tmp_path: Path) -> None:
    pixels = picture(tmp_path / "large.png", 0, size=(20, 30))
    (frame,) = from_files(tmp_path / "large.png", SHAPE)
    expected = fit(pixels.transpose(2, 0, 1)[None], SHAPE[:2], 3)[0].transpose(1, 2, 0)
    np.testing.assert_array_equal(frame.pixels, expected)


def test_grey_and_coloured_images_for_networks_of_one_and_of_three_channels(tmp_path: Path) -> None:
    grey = picture(tmp_path / "grey.png", 0, "L")
    (one,), (three,) = (from_files(tmp_path / "grey.png", (4, 5, channels)) for channels in (1, 3))
    np.testing.assert_array_equal(one.pixels[..., 0], grey)
    np.testing.assert_array_equal(three.pixels, np.repeat(grey[..., None], 3, axis=2))
    coloured = picture(tmp_path / "coloured.png", 1)
    with pytest.raises(InputError, match=r"images: '.*coloured\.png' is coloured, and the network takes 1 channel"):
        list(from_files(tmp_path / "coloured.png", (4, 5, 1)))
    with pytest.raises(InputError, match="line 1: images: the image is coloured"):
        list(from_json_lines(lines({"pixels": coloured.tolist()}), (4, 5, 1)))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bits_are_scaled_to_8(tmp_path: Path, name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**16, SHAPE[:2], dtype=np.uint16)
    pixels[0, :2] = 0, 2**16 - 1
    Image.fromarray(pixels).save(tmp_path / name)
    (frame,) = from_files(tmp_path / name, (4, 5, 1))
    np.testing.assert_array_equal(frame.pixels[..., 0], pixels // 257)
    assert frame.pixels[0, :2, 0].tolist() == [0, 255]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bits_are_of_no_known_range(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(np.zeros(SHAPE[:2], dtype)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"^images: '.*a\.tif' has 32 bits a value, of no known range"):
        list(from_files(tmp_path / "a.tif", SHAPE))


@given(arrays(np.uint8, st.tuples(st.just(4), st.just(5), st.sampled_from([1, 3]))))
def test_pixels_come_out_as_they_went_in(pixels: np.ndarray) -> None:
    shape = (4, 5, pixels.shape[2])
    (by_lines,) = from_json_lines(lines({"pixels": pixels.tolist(), "id": "a"}), shape)
    (raw,) = from_raw(io.BytesIO(pixels.tobytes()), shape)
    assert (by_lines.name, raw.name) == ("a", "0")
    for frame in (by_lines, raw):
        np.testing.assert_array_equal(frame.pixels, pixels)


def test_lines_are_named_by_id_path_or_number(tmp_path: Path) -> None:
    path = str(tmp_path / "a.png")
    picture(Path(path), 0)
    grey = np.zeros((4, 5), int).tolist()
    stream = lines({"path": path}, {"pixels": grey}, {"path": path, "id": 7})
    assert [frame.name for frame in from_json_lines(stream, SHAPE)] == [path, "1", "7"]


def test_frames_are_given_before_the_stream_ends(tmp_path: Path) -> None:
    class Endless(io.BytesIO):
        def read(self, size: int = -1) -> bytes:
            return bytes(size)

    assert [next(frames).name for frames in [from_raw(Endless(), SHAPE)] for _ in range(3)] == ["0", "1", "2"]


@pytest.mark.parametrize(
    "wrong",
    [
        "no json",
        "[]",
        "{}",
        '{"pixels": []}',
        '{"pixels": [[0.5]]}',
        '{"pixels": [[256]]}',
        '{"pixels": [[-1]]}',
        '{"pixels": [[true, 7]]}',
        '{"pixels": [[1], [1, 2]]}',
        '{"pixels": [[[1, 2]]]}',
        '{"pixels": "abc"}',
        '{"path": "nowhere.png"}',
        "[" * 100_000,
    ],
    ids=lambda line: line[:20],
)
def test_a_wrong_line_is_named_after_those_before_it(wrong: str) -> None:
    stream = io.BytesIO(b'{"pixels": [[1]]}\n\n' + wrong.encode())
    frames = from_json_lines(stream, SHAPE)
    assert next(frames).name == "0"
    with pytest.raises(InputError, match=r"^line 3: "):
        next(frames)


def test_a_stream_that_ends_within_a_frame_is_named() -> None:
    frames = from_raw(io.BytesIO(bytes(60 + 7)), SHAPE)
    next(frames)
    with pytest.raises(InputError, match="frame 1 has 7 bytes, not 60"):
        next(frames)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_no_image_is_said(tmp_path: Path, make: object) -> None:
    make(tmp_path / "there")
    with pytest.raises(InputError, match=r"images='.*there': there is no image file"):
        list(from_files(tmp_path / "there", SHAPE))


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"images: '.*a.png' is not an image"):
        list(from_files(tmp_path, SHAPE))
