"""Images from files and streams: their pixels are unchanged, and each bad one is named."""

import io
import json
import os
import re
import socket
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from sensai.data.images.resizing import fit
from sensai.data.images.single_images import Frame, Refused, from_files, from_json_lines, from_raw
from sensai.errors import InputError

SHAPE = (4, 5, 3)


def lines(*contents: object) -> io.BytesIO:
    return io.BytesIO("\n".join(json.dumps(each) for each in contents).encode())


def picture(path: Path, seed: int, mode: str = "RGB", size: tuple[int, int] = (5, 4)) -> np.ndarray:
    """Write a lossless file of noise and return uint8 (h, w) or (h, w, 3)."""
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
    said = "is coloured, and the network takes 1 channel"
    file = str(tmp_path / "coloured.png")
    # Each bad image has its own error; those beside it get answers.
    refused, frame = from_files(tmp_path, (4, 5, 1))
    assert refused == Refused(file, f"images: {file!r} {said}")
    np.testing.assert_array_equal(frame.pixels[..., 0], grey)
    first, second, third = from_json_lines(
        lines({"pixels": coloured.tolist(), "id": "a"}, {"path": file, "id": "b"}, {"pixels": grey.tolist()}), (4, 5, 1)
    )
    assert first == Refused("a", f"images: the image of line 1 {said}")
    assert second == Refused("b", f"images: {file!r} {said}")
    np.testing.assert_array_equal(third.pixels[..., 0], grey)


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
    (refused,) = from_files(tmp_path / "a.tif", SHAPE)
    assert isinstance(refused, Refused)
    assert re.match(r"images: '.*a\.tif' has 32 bits a value, of no known range", refused.reason)


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
        '{"path": 7}',
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


def test_a_path_to_nothing_does_not_end_the_stream() -> None:
    refused, frame = from_json_lines(lines({"path": "nowhere.png"}, {"pixels": [[1]]}), SHAPE)
    assert refused == Refused("nowhere.png", "images: 'nowhere.png' cannot be read (No such file or directory)")
    assert frame.name == "1"


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_no_image_is_said(tmp_path: Path, make: object) -> None:
    make(tmp_path / "there")
    with pytest.raises(InputError, match=r"images='.*there': there is no image file"):
        list(from_files(tmp_path / "there", SHAPE))


def test_what_cannot_be_read_is_refused_and_the_others_are_frames(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = picture(tmp_path / "m.png", 0)
    (tmp_path / "a.png").write_bytes(b"no image")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("gone.png")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "again").symlink_to(tmp_path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s.png"))
    for hidden in ("._m.png", "Thumbs.db", "notes.txt"):
        (tmp_path / hidden).write_bytes(b"no image")
    found = list(from_files(tmp_path, SHAPE))
    assert [Path(each.name).relative_to(tmp_path).as_posix() for each in found if isinstance(each, Refused)] == [
        *("a.png", "b.png", "c.png", "deeper/again", "s.png")
    ]
    said = [
        "is not an image that",
        "is a FIFO, not",
        "'gone.png', which cannot be reached (No such",
        "a cycle",
        "is a socket",
    ]
    for words, each in zip(said, [each for each in found if isinstance(each, Refused)], strict=True):
        assert words in each.reason
        assert repr(each.name) in each.reason
    (frame,) = [each for each in found if isinstance(each, Frame)]
    np.testing.assert_array_equal(frame.pixels, pixels)
    assert [record.getMessage() for record in caplog.records] == [
        f"images={str(tmp_path)!r}: 3 left out: 2 hidden or of the system, 1 ending in '.txt'"
    ]
    # A named file is read or refused, whatever its name.
    assert "is a FIFO" in next(from_files(tmp_path / "b.png", SHAPE)).reason
    assert "is a device" in next(from_files(Path("/dev/zero"), SHAPE)).reason


def test_any_file_name_can_be_read_and_written_as_json(tmp_path: Path) -> None:
    names = [b"caf\xe9.png", b"a\nb.png", b"\xff\xfe.png", "é ?#%'\".png".encode()]
    for seed, name in enumerate(names):
        picture(tmp_path / "x.png", seed)
        os.rename(tmp_path / "x.png", os.fsencode(tmp_path) + b"/" + name)
    frames = list(from_files(tmp_path, SHAPE))
    again = list(from_json_lines(lines(*[{"path": frame.name} for frame in frames]), SHAPE))
    assert {os.path.basename(os.fsencode(frame.name)) for frame in again} == set(names)
    for one, other in zip(frames, again, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


def only_frames_refusals_and_wrong_lines(line: bytes) -> None:
    try:
        found = list(from_json_lines(io.BytesIO(line), SHAPE))
    except InputError as error:
        assert str(error).startswith("line ")  # noqa: PT017  (it need not be raised)
    else:
        assert all(isinstance(each, Frame | Refused) for each in found)


@settings(max_examples=200)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_frames_refusals_or_wrong_lines(line: bytes) -> None:
    only_frames_refusals_and_wrong_lines(line)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200)
@given(st.fixed_dictionaries({}, optional={"path": json_values, "pixels": json_values, "id": json_values}))
def test_any_values_are_frames_refusals_or_wrong_lines(content: dict[str, object]) -> None:
    only_frames_refusals_and_wrong_lines(json.dumps(content).encode())
