"""The files of a registered ensemble, compared with the digest in the store.

The store is trusted: the tag `sensai.manifest` of a version is the digest of the manifest, which pins every other file. The
files are not trusted, since others may be able to write there. So no file is run or parsed before it has been compared, and
the model that answers is this project's own code.
"""

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.utils.models import get_model_name_and_version
from mlflow.tracking import MlflowClient

from sensai.errors import InputError
from sensai.files import storage_error, temporary_folder
from sensai.registry.aliases import CANDIDATE, CHAMPION
from sensai.registry.bundle_folders import MODEL, RUN, bundle_folder, is_folder, manifest_digest, named_folder
from sensai.registry.pyfunc_model import Bundle, EnsembleModel
from sensai.tracking import tags

_log = logging.getLogger(__name__)

# MLflow raises these for a URI that it does not understand, or that leads nowhere.
_NOT_THERE = (MlflowException, OSError, ValueError, ImportError)


@dataclass(frozen=True)
class Registered:
    """A version of an ensemble.

    Attributes:
        name: its name in messages: as the user gave it.
        uri: the place of its files, never an alias, which may move.
        digest: SHA-256 of its manifest, from the store.
    """

    name: str
    uri: str
    digest: str

    @contextmanager
    def bundle(self) -> Iterator[Bundle]:
        """Yield the bundle; its files exist while the block runs, and opened members stay open.

        Raises:
            InputError: the files cannot be read, are not an ensemble, or differ from those that were registered.
        """
        with _files(self.uri, self.name) as folder:
            try:
                bundle = Bundle(folder, self.digest)
                bundle.check()
            except (OSError, ValueError) as error:
                raise InputError(f"{self.name}: {error}") from error
            yield bundle


def find(client: MlflowClient, model_uri: str) -> Registered:
    """Return the version that a URI names, with the digest of its manifest from the store.

    A version by number or alias has a tag of its own. A logged model, a run or a folder has none, so its manifest must be
    that of a version in the store. For a logged model or a run it must be one of its own versions. Where a model has no
    champion, its candidate is taken, with a warning.

    Raises:
        InputError: the URI names nothing, or no ensemble of the store.
    """
    name = f"model_uri={model_uri!r}"
    if model_uri.startswith(RUN):
        return _by_files(client, name, model_uri)
    if not model_uri.startswith(MODEL):
        return _by_files(client, name, str(named_folder(model_uri)))
    try:
        model, *number = get_model_name_and_version(client, model_uri)
        version = client.get_model_version(model, number[0]) if number else None
    except _NOT_THERE as error:
        version = _candidate_without_champion(client, model_uri)
        if version is None:
            raise InputError(f"{name}: {_first_line(error)}") from error
    return _of_version(name, version) if version else _by_files(client, name, model_uri)


def _candidate_without_champion(client: MlflowClient, model_uri: str) -> ModelVersion | None:
    """Return the candidate of a model without a champion, for a URI that names the champion, and say so; else None."""
    model_name, _, alias = model_uri.removeprefix(MODEL).partition("@")
    try:
        aliases = client.get_registered_model(model_name).aliases
    except _NOT_THERE:
        return None
    if alias != CHAMPION or CHAMPION in aliases or CANDIDATE not in aliases:
        return None
    _log.warning(
        "%s: there is no champion yet; version %s answers, the candidate. To promote it: sensai promote --model_name %s",
        model_uri,
        aliases[CANDIDATE],
        shlex.quote(model_name),
    )
    return client.get_model_version(model_name, aliases[CANDIDATE])


def check_files(version: ModelVersion) -> None:
    """Raise an error for a version whose files are not those that were registered.

    Raises:
        InputError: the reason.
    """
    with _of_version(f"version={version.version} of {version.name!r}", version).bundle():
        pass


@contextmanager
def open_model(client: MlflowClient, model_uri: str) -> Iterator[EnsembleModel]:
    """Yield the model of a registered ensemble, ready to answer: this project's own code on the version's files.

    Raises:
        InputError: see `find` and `Registered.bundle`.
    """
    with find(client, model_uri).bundle() as bundle:
        model = EnsembleModel()
        model.open(bundle)
        yield model


def _of_version(name: str, version: ModelVersion) -> Registered:
    """Return a version with the digest in its tag."""
    if (digest := version.tags.get(tags.MANIFEST)) is None:
        raise InputError(
            f"{name}: is no ensemble that sensAI registered, or one from before files were pinned: version {version.version} "
            f"of {version.name!r} has no tag {tags.MANIFEST} to compare them with; register it again"
        )
    return Registered(name, f"{MODEL}{version.name}/{version.version}", digest)


def _by_files(client: MlflowClient, name: str, uri: str) -> Registered:
    """Return the version that has exactly the manifest at a URI."""
    with _files(uri, name) as folder:
        digest = manifest_digest(folder)
    found = client.search_model_versions(f"tags.`{tags.MANIFEST}` = '{digest}'")
    if not any(_is_of(uri, version) for version in found):
        others = f", which are those of version {found[0].version} of {found[0].name!r}" if found else ""
        raise InputError(
            f"{name}: no version that was registered from there has its files{others} (tag {tags.MANIFEST}={digest})"
        )
    return Registered(name, uri, digest)


def _is_of(uri: str, version: ModelVersion) -> bool:
    """Return True if a version was made from the run or the logged model that a URI names; a folder may be of any version."""
    if uri.startswith(RUN):
        return uri.removeprefix(RUN).lstrip("/").partition("/")[0] == version.run_id
    return not uri.startswith(MODEL) or uri == version.source


@contextmanager
def _files(uri: str, name: str) -> Iterator[Path]:
    """Yield the folder of a bundle: a copy from the store, or the folder itself."""
    with temporary_folder() as parent:
        try:
            model = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(parent)) if not is_folder(uri) else uri)
        except _NOT_THERE as error:
            raise storage_error(error, parent) or InputError(f"{name}: {_first_line(error)}") from error
        yield bundle_folder(model, name)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
