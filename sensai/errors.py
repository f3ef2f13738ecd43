"""The error for mistakes that a user can correct, and suggestions for unknown names."""

import difflib
import re
from collections.abc import Collection, Mapping

_LONGEST_VALUE = 200
_LONGEST_MESSAGE = 2000
# A text in the form of `repr`, where an apostrophe within a word does not begin one, or any value without blanks.
_VALUE = re.compile(
    r"""(?<!\w)(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?!\w)""" + rf"""|[^\s'"]{{{_LONGEST_VALUE + 1},}}"""
)


class InputError(ValueError):
    """Bad input: one line that names the parameter or file, its value, and what is allowed.

    The entry points print the line and end with status 2. Any other exception is a defect of sensAI. Long values in the
    message are shortened.
    """

    def __init__(self, message: str) -> None:
        super().__init__(shortened(message))


def shortened(message: str) -> str:
    """Return a message as one line of at most 2000 characters, in which no value has more than 200."""
    line = _VALUE.sub(_cut, " ".join(message.split()))
    if len(line) <= _LONGEST_MESSAGE:
        return line
    # The error stands at the beginning, the allowed values at the end.
    half = (_LONGEST_MESSAGE - len(" ... ")) // 2
    return f"{line[:half]} ... {line[-half:]}"


def _cut(value: re.Match[str]) -> str:
    text = value[0]
    if len(text) <= _LONGEST_VALUE:
        return text
    quote = text[0] if text[0] in "'\"" and text[-1] == text[0] else ""
    return f"{text[:_LONGEST_VALUE]}...{quote}"


def described(error: BaseException) -> str:
    """Return the type and the message of an error, shortened by `shortened`."""
    try:
        message = shortened(str(error))
    # Its class may be the user's own.
    except Exception:
        message = "(its message cannot be shown)"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def suggestion(name: str, allowed: Collection[str], others: Mapping[str, str] | None = None) -> str:
    """Return the names near an unknown one as a question; all allowed names if none is near.

    Args:
        name: the unknown one.
        allowed: names to choose from.
        others: names used elsewhere -> the names used here; only near ones are shown.
    """
    called = {**(others or {}), **{each: each for each in allowed}}
    near = [called[each] for each in difflib.get_close_matches(name, called, n=3)]
    return f"did you mean {' or '.join(near)}?" if near else f"allowed are {', '.join(allowed)}"


class EndedEarlyError(Exception):
    """Work was stopped early for a reason that is not a failure."""


class StorageError(InputError):
    """A file that cannot be written: no space is left, or the place is read-only or belongs to another user."""


class UnreachableTargetError(InputError):
    """A size that no plan reaches."""


class DamagedError(InputError):
    """A file that is not what it should be."""
