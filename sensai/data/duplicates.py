"""Files of equal content, found without reading more of them than is needed."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

from sensai.errors import InputError

# Enough of an image to tell almost any two apart that have the same size.
_BEGINNING = 4096


def equal_files(paths: Sequence[Path]) -> list[list[int]]:
    """Return the positions of the files that have an equal among the others, a list for each content.

    Only files of the same size are opened, and only those that begin alike are read to the end.

    Raises:
        InputError: a file cannot be read.
    """
    groups = [list(range(len(paths)))]
    for key in (_size, _beginning, _content):
        groups = [part for group in groups for part in _parted(group, paths, key)]
    return groups


def _parted(group: list[int], paths: Sequence[Path], key: Callable[[Path], Hashable]) -> list[list[int]]:
    """The parts of a group that have a key in common, without those of one file."""
    parts = defaultdict(list)
    for position in group:
        try:
            parts[key(paths[position])].append(position)
        except OSError as error:
            raise InputError(f"data_dir: {str(paths[position])!r} cannot be read ({error.strerror})") from error
    return [part for part in parts.values() if len(part) > 1]


def _size(path: Path) -> int:
    return path.stat().st_size


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(_BEGINNING)).digest()


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
