"""Single images as they come, each brought to the shape that a network takes: from files, or from a stream."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sensai.data.fitting import fit
from sensai.data.streaming import decode, image_suffixes
from sensai.errors import InputError

_PARAMETER = "images"
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


def from_files(path: Path, shape: tuple[int, int, int]) -> Iterator[Frame]:
    """A file, or all images below a folder in the order of their names.

    Args:
        path: of file or folder.
        shape: (H, W, C) of the frames.

    Raises:
        InputError: nothing is there, or a file is no image, or a coloured one for a network of one channel.
    """
    files = sorted(each for each in path.rglob("*") if _is_image(each)) if path.is_dir() else [path]
    if not files or not path.exists():
        raise InputError(f"{_PARAMETER}={str(path)!r}: there is no image file")
    for file in files:
        yield Frame(str(file), _read(file, shape))


def from_json_lines(stream: BinaryIO, shape: tuple[int, int, int]) -> Iterator[Frame]:
    """One JSON object a line: `path` of an image file, or `pixels` (h, w) or (h, w, C) from 0 to 255, and an `id`.

    Raises:
        InputError: a line that is none, with its number.
    """
    for number, line in enumerate(stream):
        if line.strip():
            yield _from_line(line, number, shape)


def from_raw(stream: BinaryIO, shape: tuple[int, int, int]) -> Iterator[Frame]:
    """Frames of `shape` one after the other, a byte a value, rows first and channels last.

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


# frames -> how a stream is read.
STREAMS: dict[str, Callable[[BinaryIO, tuple[int, int, int]], Iterator[Frame]]] = {
    "json": from_json_lines,
    "raw": from_raw,
}


def _from_line(line: bytes, number: int, shape: tuple[int, int, int]) -> Frame:
    try:
        content: dict[str, Any] = json.loads(line)
        name = str(content.get("id", content.get("path", number)))
        if "path" in content:
            return Frame(name, _read(Path(content["path"]), shape))
        return Frame(name, _fitted(_pixels(content["pixels"]), shape, "the image"))
    except InputError as error:
        raise InputError(f"line {number + 1}: {error}") from error
    except (KeyError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"line {number + 1}: must be like {_LINE} ({type(error).__name__}: {error})") from error


def _pixels(values: Any) -> np.ndarray:
    """uint8 (C, h, w)."""
    pixels = np.array(values)
    fits = pixels.dtype.kind in "iu" and pixels.size > 0 and pixels.min() >= 0 and pixels.max() <= 255
    # Among numbers `true` has become 1.
    if not fits or bool in set(map(type, np.array(values, dtype=object).flat)):
        raise ValueError("pixels must be integers from 0 to 255")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise ValueError(f"pixels must be (h, w), (h, w, 1) or (h, w, 3), not {pixels.shape}")
    return pixels.astype(np.uint8).transpose(2, 0, 1)


def _read(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    return _fitted(decode(path, _PARAMETER), shape, repr(str(path)))


def _fitted(pixels: np.ndarray, shape: tuple[int, int, int], name: str) -> np.ndarray:
    """uint8 (H, W, C) from (c, h, w), by the rule of the module `fitting`; `name` is who does not fit."""
    height, width, channels = shape
    if channels < len(pixels):
        if (pixels != pixels[:1]).any():
            raise InputError(f"{_PARAMETER}: {name} is coloured, and the network takes {channels} channel")
        pixels = pixels[:1]
    return fit(pixels[None], (height, width), channels)[0].transpose(1, 2, 0)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in image_suffixes() and path.is_file()
