"""Groups that the user lists in a file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sensai.documents import MEBIBYTE, parse_json, read_text, shown
from sensai.errors import InputError
from sensai.grouping.methods import METHODS

if TYPE_CHECKING:
    from sensai.grouping.partitions import Group

# A message names so many of perhaps 20,000 classes.
_MOST_NAMED = 10


@METHODS.register("file", "as groups_file lists them", joinable=None)
def read_groups(groups_file: Path, class_names: Sequence[str]) -> "list[Group]":
    """Return the groups in a JSON file: a list of lists of class names or indices.

    Raises:
        InputError: unreadable, not such a list, or a class unknown, in no group, or twice in one.
    """
    text = read_text(groups_file, "groups_file", 16 * MEBIBYTE)
    try:
        content = parse_json(text)
    except ValueError as error:
        raise InputError(f"groups_file={str(groups_file)!r}: cannot be read as JSON ({error})") from error
    if not isinstance(content, list) or not all(isinstance(group, list) and group for group in content):
        raise InputError(
            f"groups_file={str(groups_file)!r}: must be a list of non-empty lists of class names or indices"
        )
    labels = {name: label for label, name in enumerate(class_names)}
    groups = [tuple(_label(entry, labels, groups_file) for entry in group) for group in content]
    doubled = sorted({class_names[label] for group in groups for label, count in Counter(group).items() if count > 1})
    missing = [name for label, name in enumerate(class_names) if not any(label in group for group in groups)]
    if doubled or missing:
        problems = [
            f"{word}: {_listing(names)}"
            for word, names in (("twice in one group", doubled), ("missing", missing))
            if names
        ]
        raise InputError(f"groups_file={str(groups_file)!r}: every class must be in a group; {'; '.join(problems)}")
    return groups


def _label(entry: object, labels: Mapping[str, int], groups_file: Path) -> int:
    if isinstance(entry, str) and entry in labels:
        return labels[entry]
    if isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < len(labels):
        return entry
    raise InputError(
        f"groups_file={str(groups_file)!r}: {shown(entry)} is neither a class name nor an index below {len(labels)}"
    )


def _listing(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
