"""The JSON that clients send and get: that of MLflow's scoring server, so that they need not tell the two apart."""

import json
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

_KEYS = ("inputs", "instances")


def parse_images(body: bytes) -> np.ndarray:
    """The images of a request, objects (N, ...): numbers as they stand there, for `Bundle.checked`.

    Raises:
        MlflowException: no JSON object, or not one that has images under one of the two keys.
    """
    content = _parsed(body)
    found = [key for key in _KEYS if key in content] if isinstance(content, dict) else []
    if len(found) != 1:
        raise MlflowException.invalid_parameter_value(
            f"the body must be a JSON object with one of the keys {' and '.join(_KEYS)}"
        )
    return np.array(content[found[0]], dtype=object)


def render_answer(answer: pd.DataFrame) -> str:
    """The body of a response: an object of column -> value for each image."""
    return json.dumps({"predictions": answer.to_dict(orient="records")})


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MlflowException.invalid_parameter_value(f"the body must be JSON ({error})") from error
