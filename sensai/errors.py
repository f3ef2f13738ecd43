"""The one exception for what a user can mend, and what it suggests for a name that does not exist."""

import difflib
import re
from collections.abc import Collection, Mapping

_LONGEST_VALUE = 200
_LONGEST_MESSAGE = 2000
# A text as `repr` writes it, where an apostrophe within a word begins none; or what is no text and has no blanks.
_VALUE = re.compile(
    r"""(?<!\w)(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?!\w)""" + rf"""|[^\s'"]{{{_LONGEST_VALUE + 1},}}"""
)


class InputError(ValueError):
    """Bad input: one line that names the parameter or file, its value, and what is allowed.

    The entry points print the line and end with status 2; everything else that is raised is a defect of ours. Long values in
    the message are cut.
    """

    def __init__(self, message: str) -> None:
        super().__init__(shortened(message))


def shortened(message: str) -> str:
    """Return a message as one line of at most 2000 characters, in which no value has more than 200."""
    line = _VALUE.sub(_cut, " ".join(message.split()))
    if len(line) <= _LONGEST_MESSAGE:
        return line
    # What is wrong stands first, what is allowed last.
    half = (_LONGEST_MESSAGE - len(" ... ")) // 2
    return f"{line[:half]} ... {line[-half:]}"


def _cut(value: re.Match[str]) -> str:
    text = value[0]
    if len(text) <= _LONGEST_VALUE:
        return text
    quote = text[0] if text[0] in "'\"" and text[-1] == text[0] else ""
    return f"{text[:_LONGEST_VALUE]}...{quote}"


def described(error: BaseException) -> str:
    """Return what kind of error it is and its message, cut as `shortened` does."""
    try:
        message = shortened(str(error))
    # Its class may be the user's own.
    except Exception:
        message = "(its message cannot be shown)"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def suggestion(name: str, allowed: Collection[str], others: Mapping[str, str] | None = None) -> str:
    """The near names of an unknown one, as a question; all that are allowed where none is near.

    Args:
        name: the unknown one.
        allowed: names to choose from.
        others: names that something has elsewhere -> how it is called here; only near ones are shown.
    """
    called = {**(others or {}), **{each: each for each in allowed}}
    near = [called[each] for each in difflib.get_close_matches(name, called, n=3)]
    return f"did you mean {' or '.join(near)}?" if near else f"allowed are {', '.join(allowed)}"


class EndedEarlyError(Exception):
    """What was begun has been given up for a reason that is no failure."""


class StorageError(InputError):
    """A file that cannot be written: no space is left, or the place is read-only or not the user's."""


class UnreachableTargetError(InputError):
    """A size that no plan reaches."""


class DamagedError(InputError):
    """A file that is not what it should be."""
