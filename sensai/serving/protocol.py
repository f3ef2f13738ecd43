"""The content of requests and responses.

JSON is the same as that of MLflow's scoring server, so that clients can use either. N images of H x W pixels, C channels.
"""

import io
import json
import math
from base64 import b64decode
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from numpy.lib import format as npy

from sensai.errors import InputError
from sensai.registry.pyfunc_model import Bundle

JSON, ARRAY, IMAGE = "application/json", "application/octet-stream", "image/"
_TAKEN = f"{JSON}, {ARRAY} for a .npy file, or image/jpeg, image/png or image/webp"
_KEYS = ("inputs", "instances")
_IMAGE_TYPES = {"image/jpeg", "image/png", "image/webp", "image/*"}
# Bytes of one value as JSON, for images that are larger than the limit.
_BYTES_A_VALUE = 32
_THE_BODY = "the body"
# numpy reads no longer ones.
_LONGEST_HEADER = 10_100
_HEADERS: dict[tuple[int, int], Callable[[io.BytesIO], tuple[tuple[int, ...], bool, np.dtype]]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


class RefusedRequestError(Exception):
    """A request that is not read further, or not answered.

    Attributes:
        status: of the answer.
        code: of MLflow's errors.
    """

    def __init__(self, status: int, reason: str, code: str = "INVALID_PARAMETER_VALUE") -> None:
        super().__init__(reason)
        self.status = status
        self.code = code

    def body(self) -> str:
        """Return the response body, in the form of MLflow's server."""
        return json.dumps({"error_code": self.code, "message": str(self)})


@dataclass(frozen=True)
class Content:
    """The body of a request.

    Attributes:
        media_type: without parameters, in lower case: one of those that `media_type` returns.
        body: its bytes.
    """

    media_type: str
    body: bytearray

    def images(self, bundle: Bundle) -> np.ndarray:
        """Return the images (N, ...) as the ensemble takes them.

        Raises:
            MlflowException: the body is not what its type says, or has other images than the ensemble takes.
        """
        if self.media_type == JSON:
            return bundle.checked(parse_images(self.body))
        if self.media_type == ARRAY:
            return bundle.checked(parse_array(self.body, bundle))
        return _decoded(self.body, bundle)


# What a server answers before its first request: libraries prepare much at the first call. A black pixel as PNG.
WARM_UP = Content(
    "image/png",
    bytearray(
        b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
    ),
)


def media_type(content_type: str) -> str:
    """Return a content type without its parameters, in lower case.

    Raises:
        RefusedRequestError: status 415; it is none that is read.
    """
    name = content_type.partition(";")[0].strip().lower()
    if name not in {JSON, ARRAY, *_IMAGE_TYPES}:
        raise RefusedRequestError(415, f"the content type must be {_TAKEN}, not {content_type[:100]!r}")
    return name


def most_bytes(media_type: str, limit: int, image_shape: tuple[int, ...]) -> int:
    """Return the largest size of a body: the limit, or more if one image of that shape as JSON needs it."""
    return max(limit, _BYTES_A_VALUE * math.prod(image_shape)) if media_type == JSON else limit


async def read_body(chunks: AsyncIterable[bytes], announced: str, most: int) -> bytearray:
    """Return the body of a request, unless it is too large.

    Args:
        chunks: its parts, as they come.
        announced: the header Content-Length; empty if there is none.
        most: largest number of bytes.

    Raises:
        RefusedRequestError: status 413.
    """
    too_large = RefusedRequestError(413, f"the body must have {most} bytes at most; send fewer images at once")
    if announced.isdigit() and int(announced) > most:
        raise too_large
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > most:
            raise too_large
    return body


def parse_images(body: bytes | bytearray) -> np.ndarray:
    """Return the images of a JSON request, objects (N, ...): numbers as they were in JSON, for `Bundle.checked`.

    Raises:
        MlflowException: the body is not a JSON object with images under one of the two keys.
    """
    content = _parsed(body)
    found = [key for key in _KEYS if key in content] if isinstance(content, dict) else []
    if len(found) != 1:
        raise _bad(f"the body must be a JSON object with one of the keys {' and '.join(_KEYS)}")
    return np.array(content[found[0]], dtype=object)


def parse_array(body: bytes | bytearray, bundle: Bundle) -> np.ndarray:
    """Return the images of a .npy file (N, ...), or its single image as (1, ...), for `Bundle.checked`.

    Raises:
        MlflowException: it is no .npy file, holds no image, or has not as many bytes as its header says.
    """
    shape, in_columns, dtype, start = _header(body)
    if dtype.hasobject or dtype.itemsize == 0 or min(shape, default=0) < 0:
        raise _bad(f"the array must be of numbers, not {dtype} {shape}")
    if shape == bundle.image_shape:
        shape = (1, *shape)
    if shape[:1] == (0,):
        raise _bad("the array must hold at least one image")
    if len(body) - start != math.prod(shape) * dtype.itemsize:
        raise _bad(f"the array's header says {dtype} {shape}, and {len(body) - start} bytes follow")
    values = np.frombuffer(body, dtype, offset=start)
    return np.ascontiguousarray(values.reshape(shape, order="F" if in_columns else "C"))


def render_answer(answer: pd.DataFrame) -> str:
    """Return the body of a response: an object of column -> value for each image."""
    return json.dumps({"predictions": answer.to_dict(orient="records")})


def _header(body: bytes | bytearray) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Return shape, order, dtype and start of the values of a .npy file."""
    # The header is all that is copied.
    file = io.BytesIO(memoryview(body)[:_LONGEST_HEADER])
    try:
        read = _HEADERS[npy.read_magic(file)]
        shape, in_columns, dtype = read(file)
    # numpy's parser of the header, a Python literal, may raise any error.
    except Exception as error:
        raise _bad("the body must be a .npy file, as numpy.save writes it") from error
    return shape, in_columns, dtype, file.tell()


def _decoded(body: bytearray, bundle: Bundle) -> np.ndarray:
    # Only those who send image files wait for these imports.
    from sensai.data.images.single_images import from_content
    from sensai.registry.image_format import ImageFormat

    image_format = ImageFormat.of_manifest(bundle.manifest)
    try:
        pixels = from_content(bytes(body), _THE_BODY, image_format.pixels_shape(bundle.image_shape))
    except InputError as error:
        raise _bad(str(error)) from error
    return image_format.of_pixels(pixels[None])


def _parsed(body: bytes | bytearray) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _bad(f"the body must be JSON ({error})") from error


def _bad(reason: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(reason)
