"""Classes to groups. K classes, G groups."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sensai.errors import InputError

# The classes of one member, in the order of its outputs.
Group = tuple[int, ...]


def singletons(num_classes: int) -> list[Group]:
    """Every class by itself: binary members."""
    return [(label,) for label in range(num_classes)]


def random_groups(num_classes: int, n_groups: int, seed: int) -> list[Group]:
    """A random partition into groups whose sizes differ by at most one.

    Raises:
        InputError: more groups than classes.
    """
    if n_groups > num_classes:
        raise InputError(f"n_groups={n_groups}: there are only {num_classes} classes")
    order = np.random.default_rng(seed).permutation(num_classes)
    return [tuple(sorted(int(label) for label in part)) for part in np.array_split(order, n_groups)]


def read_groups(path: Path, class_names: Sequence[str]) -> list[Group]:
    """The partition in a JSON file: a list of lists of class names or indices.

    Raises:
        InputError: unreadable, not such a list, or a class missing, doubled or unknown.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"groups_file={str(path)!r}: cannot be read as JSON ({error})") from error
    if not isinstance(content, list) or not all(isinstance(group, list) and group for group in content):
        raise InputError(f"groups_file={str(path)!r}: must be a list of non-empty lists of class names or indices")
    groups = [tuple(_label(entry, class_names, path) for entry in group) for group in content]
    flat = [label for group in groups for label in group]
    doubled = sorted({class_names[label] for label in flat if flat.count(label) > 1})
    missing = [name for label, name in enumerate(class_names) if label not in flat]
    if doubled or missing:
        problems = [
            f"{word}: {', '.join(names)}" for word, names in (("doubled", doubled), ("missing", missing)) if names
        ]
        raise InputError(f"groups_file={str(path)!r}: every class must be in one group; {'; '.join(problems)}")
    return groups


def _label(entry: object, class_names: Sequence[str], path: Path) -> int:
    if isinstance(entry, str) and entry in class_names:
        return list(class_names).index(entry)
    if isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < len(class_names):
        return entry
    raise InputError(
        f"groups_file={str(path)!r}: {entry!r} is neither a class name nor an index below {len(class_names)}"
    )


def coupling_means(coupling: np.ndarray, groups: Sequence[Group]) -> dict[str, float]:
    """`coupling_within` and `coupling_between`: mean coupling of two classes in one group and in two (where there are any).

    Args:
        coupling: (K, K), see `policy.coupling`.
        groups: a partition of the classes.
    """
    owner = np.empty(len(coupling), np.int64)
    for number, group in enumerate(groups):
        owner[list(group)] = number
    same = owner[:, None] == owner[None, :]
    pairs = np.triu(np.ones_like(same), k=1).astype(bool)
    parts = {"coupling_within": coupling[pairs & same], "coupling_between": coupling[pairs & ~same]}
    return {name: float(values.mean()) for name, values in parts.items() if len(values)}
