"""Ensembles in folders of this machine: a downloaded version, or the ensemble in it. Imports neither torch nor MLflow."""

import hashlib
from pathlib import Path

from sensai.errors import InputError
from sensai.registry.bundle_reader import ARTIFACT, MANIFEST, BundleReader

MODEL, RUN = "models:/", "runs:/"

# MLflow puts the bundle here, below the folder of a model.
_IN_MODEL = Path("artifacts") / ARTIFACT
_FORMS = (
    "models:/<name>@<alias>, models:/<name>/<version>, models:/<model id>, runs:/<run id>/<name of the model>, or a folder "
    "with the files of a version"
)


def is_folder(model_uri: str) -> bool:
    """Return True for a URI that names no entry of a store."""
    return not model_uri.startswith((MODEL, RUN))


def named_folder(path: str) -> Path:
    """Return the absolute path of a folder that is named as a model.

    Raises:
        InputError: it is not a folder.
    """
    try:
        if path and Path(path).is_dir():
            return Path(path).absolute()
        what = "is a file; " if path and Path(path).exists() else ""
    # Names that no file system takes raise these.
    except (OSError, ValueError):
        what = ""
    raise InputError(f"model_uri={path!r}: {what}must be {_FORMS}")


def bundle_folder(model: Path, name: str) -> Path:
    """Return the folder of the bundle in the files of a version.

    Args:
        model: the folder of these files, or the bundle's own.
        name: of the version in messages.

    Raises:
        InputError: there is none.
    """
    folder = next((each for each in (model / _IN_MODEL, model) if (each / MANIFEST).is_file()), None)
    if folder is None:
        raise InputError(
            f"{name}: is no ensemble that sensAI registered: there is neither {_IN_MODEL / MANIFEST} nor {MANIFEST}"
        )
    return folder


def manifest_digest(folder: Path) -> str:
    """Return the SHA-256 of a bundle's manifest, which pins every other file."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def read_folder(path: str) -> BundleReader:
    """Return the bundle in a folder. Its files are compared with its manifest, and the manifest with nothing.

    Raises:
        InputError: there is no such folder, or no bundle in it.
    """
    name = f"model_uri={path!r}"
    folder = bundle_folder(named_folder(path), name)
    try:
        return BundleReader(folder, manifest_digest(folder))
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: {error}") from error
