"""Relative paths of input files: in which folders they are looked for, and how messages name these folders.

`mlflow run` changes into the project's folder, so that a path which the user gave relative to another one is not found there.
"""

import os
from pathlib import Path

_folders: list[Path] = []


def look_first_in(folder: Path) -> None:
    """Look for relative paths in a folder before the working directory, in this process."""
    if folder not in _folders and folder.resolve() != Path.cwd():
        _folders.insert(0, folder)


def located(path: str) -> str:
    """Return the absolute path of what lies in a folder of `look_first_in`; any other path is returned as it is.

    An empty path and `-`, which stands for standard input, name no file.
    """
    if path in ("", "-"):
        return path
    return next((str(folder / path) for folder in _folders if os.path.lexists(folder / path)), path)


def located_reference(reference: str) -> str:
    """Return a reference `file.py:factory` with its file `located`; names and references to modules stay as they are."""
    file, colon, name = reference.rpartition(":")
    return f"{located(file)}{colon}{name}" if file.endswith(".py") else reference


def searched(path: Path | str) -> str:
    """Return the end of a message that a path does not exist: the folders that a relative path was looked for in.

    Empty for an absolute path, which needs no explanation.
    """
    if Path(path).is_absolute():
        return ""
    return f", looked for in {' and '.join(repr(str(folder)) for folder in [*_folders, Path.cwd()])}"
