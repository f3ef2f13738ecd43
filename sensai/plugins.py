"""The user's own code, named as `path/to/file.py:factory`."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sensai.errors import InputError


def load_factory(reference: str, parameter: str) -> Callable[..., Any]:
    """The callable named by `path/to/file.py:factory`.

    Args:
        reference: file and name, separated by the last colon.
        parameter: the parameter that gave the reference, for the messages.

    Raises:
        InputError: no such file, no such name in it, or the name is not callable.
    """
    path, _, name = reference.rpartition(":")
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{parameter}={reference!r}: there is no file {path!r}")
    spec = importlib.util.spec_from_file_location(f"sensai_user_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InputError(f"{parameter}={reference!r}: {path!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    # Whatever the user's code raises while it is read is the user's to mend.
    except Exception as error:
        raise InputError(f"{parameter}={reference!r}: reading {path!r} failed ({error!r})") from error
    factory = getattr(module, name, None)
    if not callable(factory):
        raise InputError(f"{parameter}={reference!r}: {path!r} defines no function {name!r}")
    return factory
