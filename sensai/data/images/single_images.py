"""Read single images, each fitted to the shape of a network, from files or from a stream."""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sensai.data.images.decoding import decode, decode_content, one_channel
from sensai.data.images.resizing import fit
from sensai.data.images.scaling import scaled
from sensai.data.listing import images_below, in_words
from sensai.documents import parse_json, shown
from sensai.errors import InputError
from sensai.input_paths import searched

_log = logging.getLogger(__name__)
_PARAMETER = "images"
_LONGEST_PATH = 4095
# Pillow's other readers are less tested, and the senders are not trusted.
_SENT_FORMATS = ("JPEG", "PNG", "WEBP")
# Decoded, they take 200 MB.
_MOST_SENT_PIXELS = 2**26
_LINE = '{"path": "cat.png"} or {"pixels": [[0, 255, ...], ...]}, and "id" where wanted'


@dataclass(frozen=True)
class Frame:
    """One image.

    Attributes:
        name: its path, its id, or its number in the stream, from 0.
        pixels: uint8 (H, W, C).
    """

    name: str
    pixels: np.ndarray


@dataclass(frozen=True)
class Refused:
    """An image without an answer; those after it are still answered.

    Attributes:
        name: see `Frame`.
        reason: one line that names the image.
    """

    name: str
    reason: str


def from_files(path: Path, shape: tuple[int, int, int]) -> Iterator[Frame | Refused]:
    """Yield the image of a file, or all images below a folder in the order of their names; one log line lists omissions.

    Files that are not images, are broken, or are coloured although the network takes one channel, yield `Refused`.

    Args:
        path: a file or a folder.
        shape: (H, W, C) of the frames.

    Raises:
        InputError: the path does not exist, or the folder holds no image.
    """
    if not path.is_dir():
        if not os.path.lexists(path):
            raise InputError(f"{_PARAMETER}={str(path)!r}: there is no image file{searched(path)}")
        yield _from_file(path, str(path), shape)
        return
    found = images_below(str(path))
    if found.omitted:
        _log.warning("%s=%r: %s", _PARAMETER, str(path), in_words(found.omitted))
    if not found.files and not found.problems:
        raise InputError(f"{_PARAMETER}={str(path)!r}: there is no image file")
    for name in sorted([*found.files, *found.problems], key=lambda name: name.split("/")):
        if name in found.problems:
            yield Refused(str(path / name), f"{_PARAMETER}: {str(path / name)!r} {found.problems[name]}")
        else:
            yield _from_file(path / name, str(path / name), shape)


def from_content(content: bytes, name: str, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the image in the bytes of a JPEG, PNG or WebP file, uint8 (H, W, C), fitted as `from_files` fits.

    Args:
        content: of the file.
        name: of the image in messages.
        shape: (H, W, C) of the result.

    Raises:
        InputError: it is no such image, is broken or too large, or is coloured although the network takes one channel.
    """
    # Its own copy, since Pillow's pixels cannot be written, of which torch warns.
    return _fitted(decode_content(content, name, _SENT_FORMATS, _MOST_SENT_PIXELS).copy(), shape, name)


def from_json_lines(stream: BinaryIO, shape: tuple[int, int, int]) -> Iterator[Frame | Refused]:
    """Yield the image of each line, a JSON object: `path` of an image file or `pixels`, and an `id`.

    `pixels` are (h, w) or (h, w, C), from 0 to 255. Images are refused as in `from_files`.

    Raises:
        InputError: a line is not such an object; the message has its number.
    """
    for number, line in enumerate(stream):
        if line.strip():
            yield _from_line(line, number, shape)


def from_raw(stream: BinaryIO, shape: tuple[int, int, int]) -> Iterator[Frame]:
    """Yield frames of `shape` one after the other, a byte a value, rows first and channels last.

    Raises:
        InputError: the stream ends within a frame.
    """
    size = int(np.prod(shape))
    number = 0
    while content := stream.read(size):
        if len(content) < size:
            raise InputError(f"frames='raw': frame {number} has {len(content)} bytes, not {size} for {shape}")
        yield Frame(str(number), np.frombuffer(content, np.uint8).reshape(shape))
        number += 1


# frames -> the function that reads a stream.
STREAMS: dict[str, Callable[[BinaryIO, tuple[int, int, int]], Iterator[Frame | Refused]]] = {
    "json": from_json_lines,
    "raw": from_raw,
}


def _from_file(path: Path, name: str, shape: tuple[int, int, int]) -> Frame | Refused:
    try:
        return Frame(name, _fitted(decode(path, _PARAMETER), shape, repr(str(path))))
    except InputError as error:
        return Refused(name, str(error))


def _from_line(line: bytes, number: int, shape: tuple[int, int, int]) -> Frame | Refused:
    try:
        content = parse_json(line)
        if not isinstance(content, dict) or not {"path", "pixels"} & content.keys():
            raise ValueError('no object with "path" or "pixels"')
        name = str(content.get("id", content.get("path", number)))
        if "path" in content:
            return _from_file(_path(content["path"]), name, shape)
        pixels = _pixels(content["pixels"])
    except ValueError as error:
        raise InputError(f"line {number + 1}: must be like {_LINE} ({error})") from error
    try:
        return Frame(name, _fitted(pixels, shape, f"the image of line {number + 1}"))
    except InputError as error:
        return Refused(name, str(error))


def _path(value: object) -> Path:
    if not isinstance(value, str) or len(value) > _LONGEST_PATH:
        raise ValueError(f"path must be a text of at most {_LONGEST_PATH} characters, not {shown(value)}")
    return Path(value)


def _pixels(values: Any) -> np.ndarray:
    """Return uint8 (C, h, w)."""
    # The array holds objects: numpy would convert booleans to numbers, and one long text would make it reserve its length
    # for each value.
    pixels = np.array(values, dtype=object)
    whole = set(map(type, pixels.ravel().tolist())) == {int}
    if not whole or pixels.min() < 0 or pixels.max() > 255:
        raise ValueError("pixels must be integers from 0 to 255, all rows equally long")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ValueError(f"pixels must be (h, w), (h, w, 1) or (h, w, 3), not {pixels.shape}")
    return pixels.astype(np.uint8).transpose(2, 0, 1)


def _fitted(pixels: np.ndarray, shape: tuple[int, int, int], name: str) -> np.ndarray:
    """Return uint8 (H, W, C) from (c, h, w), by the rule of `resizing`; `name` is for the message of an image that does not
    fit.
    """
    height, width, channels = shape
    if channels < len(pixels):
        pixels = one_channel(pixels, name, _PARAMETER)
    return fit(pixels[None], (height, width), channels, scaled)[0].transpose(1, 2, 0)
