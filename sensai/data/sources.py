"""Read data sets as uint8 arrays; `sets` has the named ones.

`identity` is the key of the decoded copy, and costs no decoding. Arrays come in the images' own size; image folders (see
`folders`) are fitted while they are decoded.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sensai.data.checks import checked
from sensai.data.dataset_names import InputRule
from sensai.data.images.resizing import fit, target_channels, target_size
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
        """Return a key that changes whenever the result of `read` may change; costs no decoding."""

    def read(self, requested_size: int | None, rule: InputRule) -> Arrays:
        """Read the images, in the size and channels that the network takes."""


@dataclass(frozen=True)
class ArraySource:
    """A data set that a library or the user's function gives as arrays."""

    identity: str
    load: Callable[[], Arrays]

    def read(self, requested_size: int | None, rule: InputRule) -> Arrays:
        """Load the arrays, and fit them to the network's input."""
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


def user_set(reference: str, data_dir: str) -> Source:
    """Return the user's own data set, `path/to/file.py:factory` or `package.module:factory`.

    The function takes `data_dir` (a string, perhaps empty) and returns a mapping. `train`, and optionally `val` and `test`, are
    pairs (images uint8 (N, H, W) or (N, H, W, C), integer labels (N,)). `classes`, optional, are the class names.
    """
    factory = load_factory(reference, "dataset")
    code = factory_digest(reference, "dataset")
    # Nobody knows which files the function reads, so its arrays are compared by digest every time.
    arrays = Arrays(*checked(factory(data_dir), f"dataset={reference!r}"))
    content = digest(arrays)
    return ArraySource(f"{code} {content}", lambda: arrays)


def digest(arrays: Arrays) -> str:
    """Return the SHA-256 of class names, labels and images."""
    content = hashlib.sha256("\0".join(arrays.class_names).encode())
    for split in sorted(arrays.splits):
        images, labels = arrays.splits[split]
        content.update(f"{split} {images.shape} uint8".encode())
        for chunk in read_ahead(images, in_chunks(np.arange(len(images)), images.shape[1:])):
            content.update(np.ascontiguousarray(chunk).data)
        content.update(f"{split} {labels.shape} {labels.dtype}".encode())
        content.update(np.ascontiguousarray(labels).data)
    return content.hexdigest()
