"""JSON of requests and responses: the same as that of MLflow's scoring server, so that clients can use either."""

import json
import math
from collections.abc import AsyncIterable
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

JSON = "application/json"
_KEYS = ("inputs", "instances")
# A byte of JSON may take up to 16 bytes in memory.
_MOST_BYTES = 16 * 2**20
# Bytes of one value as JSON, for images that are larger than the limit above.
_BYTES_A_VALUE = 32


class RefusedRequestError(Exception):
    """A request that is not read further.

    Attributes:
        status: of the answer.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status

    def body(self) -> str:
        """Return the response body, in the form of MLflow's server."""
        return json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": str(self)})


def most_bytes(image_shape: tuple[int, ...]) -> int:
    """Return the largest size of a body: 16 MiB, or more if a single image of that shape needs it."""
    return max(_MOST_BYTES, _BYTES_A_VALUE * math.prod(image_shape))


def check_content_type(content_type: str) -> None:
    """Raise an error if the content type is not JSON.

    Raises:
        RefusedRequestError: status 415.
    """
    if content_type.partition(";")[0].strip().lower() != JSON:
        raise RefusedRequestError(415, f"the content type must be {JSON}, not {content_type[:100]!r}")


async def read_body(chunks: AsyncIterable[bytes], announced: str, most: int) -> bytes:
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
    return bytes(body)


def parse_images(body: bytes) -> np.ndarray:
    """Return the images of a request, objects (N, ...): numbers as they were in JSON, for `Bundle.checked`.

    Raises:
        MlflowException: the body is not a JSON object with images under one of the two keys.
    """
    content = _parsed(body)
    found = [key for key in _KEYS if key in content] if isinstance(content, dict) else []
    if len(found) != 1:
        raise MlflowException.invalid_parameter_value(
            f"the body must be a JSON object with one of the keys {' and '.join(_KEYS)}"
        )
    return np.array(content[found[0]], dtype=object)


def render_answer(answer: pd.DataFrame) -> str:
    """Return the body of a response: an object of column -> value for each image."""
    return json.dumps({"predictions": answer.to_dict(orient="records")})


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MlflowException.invalid_parameter_value(f"the body must be JSON ({error})") from error
