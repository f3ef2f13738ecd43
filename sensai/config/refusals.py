"""Messages for bad parameters: each names the parameter, its value and what is allowed."""

import difflib
from typing import Any

from pydantic import ValidationError

from sensai.config.entry_point import EntryPoint
from sensai.documents import shown
from sensai.errors import InputError


def describe_errors(error: ValidationError) -> str:
    """Return one line for all bad parameters of a call: name, value, what is allowed."""
    return "; ".join(_describe(details) for details in error.errors(include_url=False))


def refusal(config: type[EntryPoint], name: str, value: object) -> str:
    """Return the reason why a parameter may not have a value of a file; empty if it may.

    The other parameters do not matter. In a file a text is no number, and a number is no truth value.
    """
    try:
        config.model_validate({name: value}, strict=True)
    except ValidationError as error:
        return "; ".join(_describe(each) for each in error.errors(include_url=False) if each["loc"][:1] == (name,))
    return ""


def unknown_parameter(name: str, config: type[EntryPoint]) -> InputError:
    """Return the error for a parameter that an entry point does not take; it suggests a similar name."""
    near = difflib.get_close_matches(name, config.model_fields, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(config.model_fields)}"
    return InputError(f"{shown(name)} is no parameter of {config.stage}; {hint}")


def _describe(details: Any) -> str:
    message = details["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if not details["loc"]:
        return message
    return f"{details['loc'][0]}={shown(details['input'])}: {message}"
