"""Groups as a file gives them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from sensai.documents import MEBIBYTE, parse_json, read_text, shown
from sensai.errors import InputError
from sensai.grouping.partitions import Group

# Of 20,000 classes, the names of the first tell enough.
_MOST_NAMED = 10


def read_groups(path: Path, class_names: Sequence[str]) -> list[Group]:
    """The partition in a JSON file: a list of lists of class names or indices.

    Raises:
        InputError: unreadable, not such a list, or a class missing, doubled or unknown.
    """
    text = read_text(path, "groups_file", 16 * MEBIBYTE)
    try:
        content = parse_json(text)
    except ValueError as error:
        raise InputError(f"groups_file={str(path)!r}: cannot be read as JSON ({error})") from error
    if not isinstance(content, list) or not all(isinstance(group, list) and group for group in content):
        raise InputError(f"groups_file={str(path)!r}: must be a list of non-empty lists of class names or indices")
    labels = {name: label for label, name in enumerate(class_names)}
    groups = [tuple(_label(entry, labels, path) for entry in group) for group in content]
    counts = Counter(label for group in groups for label in group)
    doubled = sorted(class_names[label] for label, count in counts.items() if count > 1)
    missing = [name for label, name in enumerate(class_names) if label not in counts]
    if doubled or missing:
        problems = [
            f"{word}: {_listing(names)}" for word, names in (("doubled", doubled), ("missing", missing)) if names
        ]
        raise InputError(f"groups_file={str(path)!r}: every class must be in one group; {'; '.join(problems)}")
    return groups


def _label(entry: object, labels: Mapping[str, int], path: Path) -> int:
    if isinstance(entry, str) and entry in labels:
        return labels[entry]
    if isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < len(labels):
        return entry
    raise InputError(
        f"groups_file={str(path)!r}: {shown(entry)} is neither a class name nor an index below {len(labels)}"
    )


def _listing(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
