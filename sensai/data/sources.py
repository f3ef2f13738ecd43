"""Where each kind of data set comes from, read as uint8 arrays.

A source names itself cheaply (`identity`, the key of the decoded copy) and reads itself when asked. Arrays are handed over
in the images' own size; image folders (see `folders`) are fitted as they are decoded.
"""

import hashlib
import urllib.error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sensai.data.checks import checked
from sensai.data.dataset_names import InputRule
from sensai.data.resizing import fit, target_channels, target_size
from sensai.data.streaming import Images, in_chunks, read_ahead
from sensai.errors import InputError
from sensai.plugins import factory_digest, load_factory


@dataclass(frozen=True)
class Arrays:
    """A data set as it was read: `splits` maps train, val, test to (images uint8 (N, C, H, W), labels int64 (N,))."""

    class_names: tuple[str, ...]
    splits: Mapping[str, tuple[Images, np.ndarray]]


class Source(Protocol):
    """One data set that can be read."""

    @property
    def identity(self) -> str:
        """Changes whenever what `read` gives may change; costs no decoding."""

    def read(self, requested_size: int | None, rule: InputRule) -> Arrays:
        """The images, brought to the size and channels that the network takes."""


@dataclass(frozen=True)
class ArraySource:
    """Data that some library or the user's function hands over as arrays."""

    identity: str
    load: Callable[[], Arrays]

    def read(self, requested_size: int | None, rule: InputRule) -> Arrays:
        """Fit what `load` gives."""
        raw = self.load()
        splits = {}
        shapes = {images.shape[1:] for images, _ in raw.splits.values()}
        if len({shape[0] for shape in shapes}) > 1:
            raise InputError("dataset: the splits' images differ in their number of channels")
        native = next(iter(shapes))
        size = target_size(requested_size, rule, native[1:] if len(shapes) == 1 else None)
        channels = target_channels(rule, native[0])
        for name, (images, labels) in raw.splits.items():
            chunks = read_ahead(images, in_chunks(np.arange(len(images)), images.shape[1:]))
            splits[name] = (np.concatenate([fit(chunk, size, channels) for chunk in chunks]), labels.astype(np.int64))
        return Arrays(raw.class_names, splits)


# ---------------------------------------------------------------------------------------------- built in and torchvision


def digits() -> Source:
    """The 1,797 handwritten digits of scikit-learn (8x8, grey); a fixed stratified fifth is the test split."""

    def load() -> Arrays:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        bunch = load_digits()
        images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
        train, test = train_test_split(
            np.arange(len(images)), test_size=0.2, stratify=bunch.target, random_state=np.random.RandomState(0)
        )
        splits = {"train": (images[train], bunch.target[train]), "test": (images[test], bunch.target[test])}
        return Arrays(*checked({**splits, "classes": bunch.target_names}, "dataset='digits'"))

    return ArraySource("digits", load)


@dataclass(frozen=True)
class _TorchvisionForm:
    class_name: str
    split_argument: dict[str, dict[str, Any]]
    expected: str


_TRAIN_FLAG: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_IDX_FILES = "{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz"
_TORCHVISION_FORMS = {
    "mnist": _TorchvisionForm("MNIST", _TRAIN_FLAG, f"MNIST/raw/{_IDX_FILES}"),
    "fashion_mnist": _TorchvisionForm("FashionMNIST", _TRAIN_FLAG, f"FashionMNIST/raw/{_IDX_FILES}"),
    "cifar10": _TorchvisionForm("CIFAR10", _TRAIN_FLAG, "cifar-10-python.tar.gz"),
    "cifar100": _TorchvisionForm("CIFAR100", _TRAIN_FLAG, "cifar-100-python.tar.gz"),
    "svhn": _TorchvisionForm(
        "SVHN", {"train": {"split": "train"}, "test": {"split": "test"}}, "train_32x32.mat and test_32x32.mat"
    ),
}


def torchvision_set(name: str, folder: Path) -> Source:
    """A data set of torchvision, downloaded into `folder` where that is possible."""
    form = _TORCHVISION_FORMS[name]

    def load() -> Arrays:
        import torchvision

        make = getattr(torchvision.datasets, form.class_name)
        result: dict[str, Any] = {}
        for split, arguments in form.split_argument.items():
            try:
                data = make(root=folder, download=True, **arguments)
            except (RuntimeError, OSError, urllib.error.URLError) as error:
                raise InputError(
                    f"dataset={name!r}: not found under data_dir={str(folder)!r} and it cannot be downloaded; "
                    f"put {form.expected} there ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
                ) from error
            # The files of torchvision may be anything, since it does not check those that lie there already.
            except Exception as error:
                raise InputError(
                    f"dataset={name!r}: the files under data_dir={str(folder)!r} are broken ({error!r})"
                ) from error
            images = np.asarray(data.data)
            if images.ndim == 4 and images.shape[-1] != 3:
                images = images.transpose(0, 2, 3, 1)
            result[split] = (images, np.asarray(data.labels if hasattr(data, "labels") else data.targets))
            if hasattr(data, "classes"):
                result["classes"] = data.classes
        return Arrays(*checked(result, f"dataset={name!r}: data_dir={str(folder)!r}"))

    return ArraySource(f"{name} {folder.resolve()}", load)


# ------------------------------------------------------------------------------------------------------- the user's own


def user_set(reference: str, data_dir: str) -> Source:
    """The user's own data set, `path/to/file.py:factory` or `package.module:factory`.

    The function is called with `data_dir` (a string, perhaps empty) and returns a mapping: `train`, and where there are any
    `val` and `test`, each a pair (images uint8 (N, H, W) or (N, H, W, C), integer labels (N,)); and, optionally, `classes`,
    the class names.
    """
    factory = load_factory(reference, "dataset")
    code = factory_digest(reference, "dataset")
    # What the function reads is unknown, so its arrays are read and compared by digest every time.
    arrays = Arrays(*checked(factory(data_dir), f"dataset={reference!r}"))
    content = digest(arrays)
    return ArraySource(f"{code} {content}", lambda: arrays)


def digest(arrays: Arrays) -> str:
    """SHA-256 of class names, labels and images."""
    content = hashlib.sha256("\0".join(arrays.class_names).encode())
    for split in sorted(arrays.splits):
        images, labels = arrays.splits[split]
        content.update(f"{split} {images.shape} uint8".encode())
        for chunk in read_ahead(images, in_chunks(np.arange(len(images)), images.shape[1:])):
            content.update(np.ascontiguousarray(chunk).data)
        content.update(f"{split} {labels.shape} {labels.dtype}".encode())
        content.update(np.ascontiguousarray(labels).data)
    return content.hexdigest()
