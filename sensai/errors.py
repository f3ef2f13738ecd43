"""The one exception for what a user can mend, and what it suggests for a name that does not exist."""

import difflib
from collections.abc import Collection


class InputError(ValueError):
    """Bad input: one line that names the parameter or file, its value, and what is allowed.

    The entry points print the line and end with status 2; everything else that is raised is a defect of ours.
    """


def suggestion(name: str, allowed: Collection[str]) -> str:
    """The near names of an unknown one, as a question; all that are allowed where none is near."""
    near = difflib.get_close_matches(name, allowed, n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"allowed are {', '.join(allowed)}"


class EndedEarlyError(Exception):
    """What was begun has been given up for a reason that is no failure."""


class StorageError(InputError):
    """A file that cannot be written: no space is left, or the place is read-only or not the user's."""


class UnreachableTargetError(InputError):
    """A size that no plan reaches."""
