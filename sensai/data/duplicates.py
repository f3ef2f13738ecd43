"""Find files of equal content without reading more of them than needed."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

from sensai.errors import InputError

# So many bytes tell almost any two images of the same size apart.
_BEGINNING = 4096


def equal_files(paths: Sequence[Path]) -> list[list[int]]:
    """Return the positions of the files that equal another one, a list for each content.

    Only files of the same size are opened, and only those with equal beginnings are read to the end.

    Raises:
        InputError: a file cannot be read.
    """
    groups = [list(range(len(paths)))]
    for key in (_size, _beginning, _content):
        groups = [part for group in groups for part in _parted(group, paths, key)]
    return groups


def _parted(group: list[int], paths: Sequence[Path], key: Callable[[Path], Hashable]) -> list[list[int]]:
    """Return the parts of a group that have the same key, without parts of one file."""
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
