"""Requests of clients to a server of an ensemble over HTTP, and its answers to bad input."""

import json
from typing import Any

import numpy as np
import pandas as pd
import requests

_SECONDS = 60


def ask(url: str, body: object, **headers: str) -> requests.Response:
    """Send JSON, or raw text, to be answered with predictions."""
    content = body if isinstance(body, str) else json.dumps(body)
    given = {"Content-Type": "application/json"} | headers
    return requests.post(f"{url}/invocations", data=content, headers=given, timeout=_SECONDS)


def predictions(url: str, images: np.ndarray, key: str = "inputs") -> pd.DataFrame:
    answer = ask(url, {key: images.tolist()})
    assert answer.status_code == 200, answer.text
    return pd.DataFrame(answer.json()["predictions"])


def reason(answer: requests.Response) -> str:
    return str(answer.json()["message"])


def with_value(images: np.ndarray, value: object) -> list[Any]:
    """Return two images as JSON, with another value in the second."""
    nested: list[Any] = images.tolist()
    nested[1][0][0][0] = value
    return nested


# By dtype: a value that does not have it, and the reason.
BAD_VALUES = {
    "uint8": [
        (300, r"must have values in \[0, 255\], not \S+ to 300"),
        (-1, r"must have values in \[0, 255\], not -1 to "),
        (1.5, r"must be uint8 of shape .*, not float64 "),
        (float("nan"), r"must be uint8 .*, not float64"),
        (10**30, r"must be uint8 .*, not object"),
        ("7", r"must be uint8 .*, not object"),
        (None, r"must be uint8 .*, not object"),
        (True, r"must be uint8 .*, not object"),
    ],
    "float32": [
        (1.5, r"must have values in \[0, 1\], not \S+ to 1\.5"),
        (-0.5, r"must have values in \[0, 1\], not -0\.5 to "),
        (float("nan"), r"must have values in \[0, 1\], not nan to nan"),
        (float("inf"), r"must have values in \[0, 1\], not \S+ to inf"),
        ("0.5", r"must be float32 .*, not object"),
        (False, r"must be float32 .*, not object"),
    ],
}
