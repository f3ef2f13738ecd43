"""Parameters of the verbs, checked as the entry points check them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from pydantic import ValidationError

from sensai.config import EntryPoint, describe_errors, unknown_parameter
from sensai.errors import InputError

ConfigT = TypeVar("ConfigT", bound=EntryPoint)


def checked(config: type[ConfigT], values: dict[str, object]) -> ConfigT:
    """Return the configuration of an entry point with these values; None stands for the default.

    Raises:
        InputError: unknown parameters, or values that are not allowed, all of them named.
    """
    for name in values:
        if name not in config.model_fields:
            raise unknown_parameter(name, config)
    try:
        return config.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        raise InputError(describe_errors(error)) from error


@contextmanager
def about_model() -> Iterator[None]:
    """Let errors within the block name the parameter `model`, where the entry points name `arch`."""
    try:
        yield
    except InputError as error:
        raise InputError(re.sub(r"^arch(=\S+)?:", "model:", str(error))) from error
