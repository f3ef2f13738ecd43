"""Groups that the user lists in a file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sensai.errors import InputError
from sensai.files import regular_file
from sensai.grouping.methods import METHODS

if TYPE_CHECKING:
    from sensai.grouping.partitions import Group


@METHODS.register("file", "as groups_file lists them")
def read_groups(groups_file: Path, class_names: Sequence[str]) -> "list[Group]":
    """Return the partition in a JSON file: a list of lists of class names or indices.

    Raises:
        InputError: unreadable, not such a list, or a class missing, doubled or unknown.
    """
    regular_file(groups_file, "groups_file")
    try:
        content = json.loads(groups_file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"groups_file={str(groups_file)!r}: cannot be read as JSON ({error})") from error
    if not isinstance(content, list) or not all(isinstance(group, list) and group for group in content):
        raise InputError(
            f"groups_file={str(groups_file)!r}: must be a list of non-empty lists of class names or indices"
        )
    groups = [tuple(_label(entry, class_names, groups_file) for entry in group) for group in content]
    flat = [label for group in groups for label in group]
    doubled = sorted({class_names[label] for label in flat if flat.count(label) > 1})
    missing = [name for label, name in enumerate(class_names) if label not in flat]
    if doubled or missing:
        problems = [
            f"{word}: {', '.join(names)}" for word, names in (("doubled", doubled), ("missing", missing)) if names
        ]
        raise InputError(f"groups_file={str(groups_file)!r}: every class must be in one group; {'; '.join(problems)}")
    return groups


def _label(entry: object, class_names: Sequence[str], groups_file: Path) -> int:
    if isinstance(entry, str) and entry in class_names:
        return list(class_names).index(entry)
    if isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < len(class_names):
        return entry
    raise InputError(
        f"groups_file={str(groups_file)!r}: {entry!r} is neither a class name nor an index below {len(class_names)}"
    )
