"""Read one image file as an array: upright, 8 bits a value, RGB or grey. (c, h, w) pixels."""

import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from sensai.errors import InputError

# Raised whenever files decode to other pixels than before, so that no earlier decoded copy is used.
READER_VERSION = 2

# Pillow knows these formats by name, but needs other programs to decode them.
_NOT_DECODED = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF"}

# EXIF orientation -> the operation that turns the stored image upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = {5, 6, 7, 8}


def image_suffixes() -> set[str]:
    """Return the endings of the names of image files, in lower case: ".png", ..."""
    known = Image.registered_extensions()
    return {suffix for suffix, name in known.items() if name in Image.OPEN and name not in _NOT_DECODED}


def special_kind(mode: int) -> str:
    """Return the name of a kind of file that may block a reader for ever; empty for files and folders."""
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    return "a FIFO" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"


def decode(path: Path, parameter: str = "data_dir", channels: int = 3) -> np.ndarray:
    """Read an image upright, as its EXIF orientation says.

    Args:
        path: of the file.
        parameter: named in the message if the file cannot be read.
        channels: 3 for RGB, or 1 for grey.

    Returns:
        uint8 (channels, h, w), of the image's own size.

    Raises:
        InputError: not an image, broken, too large, of 32 bits a value, or coloured although `channels` is 1.
    """
    with _opened(path, parameter) as image:
        pixels = _pixels(image, f"{parameter}: {str(path)!r}")
    return pixels if channels == len(pixels) else one_channel(pixels, repr(str(path)), parameter)


def decode_content(content: bytes, name: str, formats: Sequence[str], most_pixels: int) -> np.ndarray:
    """Read an image from the bytes of its file, upright as `decode` does.

    Args:
        content: of the file.
        name: of the image in messages.
        formats: names of Pillow's readers that may read it.
        most_pixels: largest number of pixels.

    Returns:
        uint8 (3, h, w), of the image's own size.

    Raises:
        InputError: not an image of these formats, broken, too large, or of 32 bits a value.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=list(formats))
    except Image.DecompressionBombError as error:
        raise _too_large(name, error) from error
    # As in `_opened`.
    except Exception as error:
        raise InputError(f"{name} is not an image that can be read: allowed are {', '.join(formats)}") from error
    with image:
        if image.width * image.height > most_pixels:
            raise InputError(
                f"{name} is too large: {image.width} x {image.height} pixels, at most {most_pixels} are read"
            )
        return _pixels(image, name)


def one_channel(pixels: np.ndarray, name: str, parameter: str) -> np.ndarray:
    """Return the grey values uint8 (1, h, w) of an image (c, h, w) whose channels are equal.

    Raises:
        InputError: they are not.
    """
    if (pixels != pixels[:1]).any():
        raise InputError(f"{parameter}: {name} is coloured, and the network takes 1 channel")
    return pixels[:1]


def upright_size(path: Path, parameter: str = "data_dir") -> tuple[int, int]:
    """Return height and width of an image that `decode` would read; most formats are not decoded for that.

    Raises:
        InputError: not an image, or too large.
    """
    with _opened(path, parameter) as image:
        width, height = image.size
        # Pillow gives the size of a TIFF after turning it.
        turned = width != height and image.format != "TIFF" and _orientation(image) in _ON_ITS_SIDE
        return (width, height) if turned else (height, width)


def _opened(path: Path, parameter: str) -> Image.Image:
    """Return an image whose header has been read."""
    name = f"{parameter}: {str(path)!r}"
    try:
        if kind := special_kind(os.stat(path).st_mode):
            raise InputError(f"{name} is {kind}, not an image file")
        return Image.open(path)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name, error) from error
    # Pillow's readers may raise any error on files that only begin like their format.
    except Exception as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise InputError(
            f"{name} cannot be read ({why})" if why else f"{name} is not an image that can be read"
        ) from error


def _pixels(image: Image.Image, name: str) -> np.ndarray:
    """Return the pixels, uint8 (3, h, w); `name` is for messages."""
    try:
        image.load()
        if image.mode in ("I", "F"):
            raise InputError(f"{name} has 32 bits a value, of no known range; save it with 8 or 16")
        turn = _TURNS.get(_orientation(image))
        upright = image if turn is None else image.transpose(turn)
        return np.asarray(_of_8_bits(upright).convert("RGB")).transpose(2, 0, 1)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name, error) from error
    # A broken file may also raise any error while it is decoded.
    except Exception as error:
        raise InputError(f"{name} is broken ({error})") from error


def _too_large(name: str, error: Image.DecompressionBombError) -> InputError:
    """Return the error with Pillow's own sentence, which has the pixels and the limit."""
    return InputError(f"{name} is too large: {str(error).partition(', ')[0]}")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) if there is none or it cannot be read."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    # Invalid camera metadata do not make the image unreadable.
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def _of_8_bits(image: Image.Image) -> Image.Image:
    """Return grey values of 16 bits scaled to 8, since Pillow would clip them at 255."""
    return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)) if image.mode.startswith("I;16") else image
