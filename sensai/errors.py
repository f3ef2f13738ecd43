"""The one exception for what a user can mend, and what it suggests for a name that does not exist."""

import difflib
from collections.abc import Collection, Mapping


class InputError(ValueError):
    """Bad input: one line that names the parameter or file, its value, and what is allowed.

    The entry points print the line and end with status 2; everything else that is raised is a defect of ours.
    """


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


class UnreachableTargetError(InputError):
    """A size that no plan reaches."""
