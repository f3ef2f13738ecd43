"""Read and run a registered ensemble from its files. Needs numpy and onnxruntime only.

`LocalEnsemble` answers in this process. `pyfunc_model` makes it a model of MLflow. N images, K classes.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

# The version of the manifest that `sensai.registry.bundle` writes.
FORMAT_VERSION = 3

# The folder of the bundle among the model's artifacts, and the file in it that pins every other file.
ARTIFACT = "ensemble"
MANIFEST = "manifest.json"

# The key of the manifest's digest in the model's configuration, which MLflow keeps beside the bundle.
PIN = "manifest_sha256"

# The column that is True for images that belong to none of the classes.
REJECTED = "none_of_them"

# A function from images to the outputs of one member, float32 (N, 1), (N, 1 + g) or (N, K).
Run = Callable[[np.ndarray], np.ndarray]

# By dtype of the images: the largest value, and the kinds of numbers in JSON that are such values.
_LARGEST = {"uint8": 255, "float32": 1}
_JSON_KINDS = {"uint8": "iu", "float32": "iuf"}

_UINT8 = np.dtype(np.uint8)

# Where no member wants an image, all classes are alike.
_TINY = float(np.finfo(np.float64).tiny)


class RefusedImagesError(ValueError):
    """Images that an ensemble does not take; the message has the reason."""


class BundleReader:
    """The files of an ensemble: the images that it takes, its members, and how their outputs combine."""

    def __init__(self, folder: Path, digest: str) -> None:
        """Read the manifest.

        Args:
            folder: written by `sensai.registry.bundle.export_bundle`.
            digest: returned by that function.

        Raises:
            ValueError: the manifest is not the one that was registered, or of another format version.
        """
        self.manifest = _manifest(_pinned(folder / MANIFEST, digest))
        self._folder = folder
        calibration = self.manifest["calibration"]
        if calibration["method"] != "raw":
            self._weight, self._bias = np.array(calibration["weight"]), np.array(calibration["bias"])
        self._layouts: dict[tuple[int, ...], _Layout] = {}

    @cached_property
    def image_shape(self) -> tuple[int, ...]:
        """Return the shape of one image, in the layout of the manifest."""
        return tuple(self.manifest["image_shape"])

    def checked(self, images: Any) -> np.ndarray:
        """Return the images if the ensemble takes them.

        Args:
            images: an array of the dtype in the manifest, or of objects: numbers as they were in JSON, where 7 is a
                value of uint8 and 7.0 is not.

        Raises:
            RefusedImagesError: another dtype or shape, or values out of range; the message has the reason.
        """
        dtype, given = self.manifest["dtype"], np.asarray(images)
        # The usual case, without what takes microseconds.
        if given.dtype is _UINT8 and dtype == "uint8" and given.shape[1:] == self.image_shape:
            return given
        if from_json := given.dtype == object:
            given = _numbers(given)
        fits = given.dtype.kind in _JSON_KINDS[dtype] if from_json else given.dtype == dtype
        if not fits or given.shape[1:] != self.image_shape:
            shape = ", ".join(map(str, self.image_shape))
            raise RefusedImagesError(f"images must be {dtype} of shape (N, {shape}), not {given.dtype} {given.shape}")
        # The condition is written so that NaN is refused too.
        largest = _LARGEST[dtype]
        if given.dtype != np.uint8 and given.size and not (given.min() >= 0 and given.max() <= largest):
            raise RefusedImagesError(
                f"images must have values in [0, {largest}], not {given.min():g} to {given.max():g}"
            )
        return given.astype(dtype, copy=False)

    def check(self) -> None:
        """Read every file once.

        Raises:
            ValueError: a file is not the one that was registered.
        """
        for number in range(len(self.manifest["members"])):
            self._member(number)

    def open_member(self, number: int, threads: int = 1) -> Run:
        """Return a member, ready to run on so many threads.

        Raises:
            ValueError: its file is not the one that was registered.
        """
        # Imported here, since others read the names of this module only.
        import onnxruntime

        content = self._member(number)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that wait by spinning would keep cores from other members.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

        def run(images: np.ndarray) -> np.ndarray:
            outputs: np.ndarray = session.run(None, {"images": images})[0]
            return outputs

        return run

    def _member(self, number: int) -> bytes:
        member = self.manifest["members"][number]
        return _pinned(self._folder / member["file"], member["sha256"])

    def probabilities(self, outputs: list[np.ndarray]) -> np.ndarray:
        """Return class probabilities float64 (N, K) from the outputs of all members, as `sensai.ensemble.calibration` does."""
        if self.manifest["calibration"]["method"] != "raw":
            return _softmax(np.concatenate(outputs, axis=1, dtype=np.float64) @ self._weight.T + self._bias)
        widths = tuple(each.shape[1] for each in outputs)
        if widths not in self._layouts:
            self._layouts[widths] = _Layout.of(
                widths, [each["classes"] for each in self.manifest["members"]], len(self.manifest["class_names"])
            )
        return self._layouts[widths].scores(outputs)

    def rejected(self, probabilities: np.ndarray) -> np.ndarray | None:
        """Return which images belong to none of the classes, bool (N,); None where the ensemble rejects none."""
        threshold = self.manifest["calibration"]["threshold"]
        return None if threshold is None else probabilities.max(1) < threshold


@dataclass(frozen=True)
class _Layout:
    """The columns of all members' outputs side by side, so that one operation serves all members.

    A member of one logit gets a column of zeros before it: its outcome 0. S columns, M members.

    Attributes:
        padded: which members get such a column.
        starts: (M,), the first column of each member.
        members: (S,), the member of each column.
        mean: float64 (S, K), the weight of a column's share in the score of a class.
    """

    padded: tuple[bool, ...]
    starts: np.ndarray
    members: np.ndarray
    mean: np.ndarray

    @classmethod
    def of(cls, widths: tuple[int, ...], classes: list[list[int]], num_classes: int) -> "_Layout":
        """Return the layout of members whose outputs are so wide.

        Raises:
            ValueError: a member has fewer outputs than classes.
        """
        padded = tuple(width == 1 for width in widths)
        columns = [width + pad for width, pad in zip(widths, padded, strict=True)]
        ends = np.cumsum(columns)
        mean = np.zeros((ends[-1], num_classes))
        for end, width, own in zip(ends, columns, classes, strict=True):
            if len(own) > width:
                raise ValueError(f"a member of {len(own)} classes has {width} outputs")
            # The columns before those of its classes are for "none of mine".
            mean[np.arange(end - len(own), end), own] = 1
        return cls(padded, ends - columns, np.repeat(np.arange(len(columns)), columns), mean / mean.sum(0))

    def scores(self, outputs: list[np.ndarray]) -> np.ndarray:
        """Return float64 (N, K): each member's softmax shares, averaged over the members of a class, normalised to sum 1."""
        zeros = np.zeros((len(outputs[0]), 1))
        parts: list[np.ndarray] = []
        for is_padded, each in zip(self.padded, outputs, strict=True):
            parts += (zeros, each) if is_padded else (each,)
        # In place, since memory costs as much time as arithmetic for one image.
        shares = np.concatenate(parts, axis=1, dtype=np.float64)
        shares -= np.maximum.reduceat(shares, self.starts, axis=1).take(self.members, axis=1)
        np.exp(shares, out=shares)
        shares /= np.add.reduceat(shares, self.starts, axis=1).take(self.members, axis=1)
        scores: np.ndarray = shares @ self.mean
        scores += _TINY
        scores /= np.add.reduce(scores, axis=1, keepdims=True)
        return scores


class LocalEnsemble:
    """All members on the same images, at the same time on the cores of this machine. Several threads may call it."""

    def __init__(self, bundle: BundleReader) -> None:
        """Open one session a member.

        Raises:
            ValueError: a file is not the one that was registered.
        """
        self.bundle = bundle
        members = bundle.manifest["members"]
        cores = _cores()
        self._runs = [bundle.open_member(number, max(cores // len(members), 1)) for number in range(len(members))]
        # The most expensive members begin first, so that none of them runs alone at the end.
        self._order = sorted(range(len(members)), key=lambda number: -members[number]["flops"])
        # The caller's thread runs members too.
        self._helpers = min(cores, len(members)) - 1
        self._pool = ThreadPoolExecutor(self._helpers, "sensai-member") if self._helpers else None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return class probabilities float64 (N, K).

        Raises:
            RefusedImagesError: images of another dtype or shape than in the manifest, or values out of range.
        """
        return self.bundle.probabilities(self.outputs(self.bundle.checked(images)))

    def outputs(self, images: np.ndarray) -> list[np.ndarray]:
        """Return the outputs of each member for images of the manifest's dtype and shape."""
        outputs = [images] * len(self._runs)
        # Whoever is free takes the next member.
        numbers = iter(self._order)
        if self._pool is None:
            self._run(numbers, images, outputs)
            return outputs
        helping = [self._pool.submit(self._run, numbers, images, outputs) for _ in range(self._helpers)]
        self._run(numbers, images, outputs)
        for each in helping:
            # A helper that has not begun finds nothing left to do.
            if not each.cancel():
                each.result()
        return outputs

    def _run(self, numbers: Iterator[int], images: np.ndarray, outputs: list[np.ndarray]) -> None:
        for number in numbers:
            outputs[number] = self._runs[number](images)


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _numbers(objects: np.ndarray) -> np.ndarray:
    """Return the array that numpy makes of numbers.

    The objects are returned unchanged if some are no numbers or lists differ in length. For one long text numpy would
    reserve its length for each value.
    """
    if not set(map(type, objects.ravel().tolist())) <= {int, float}:
        return objects
    try:
        return np.array(objects.tolist())
    # Whole numbers of hundreds of digits beside others cause this error.
    except OverflowError:
        return objects


def _manifest(content: bytes) -> dict[str, Any]:
    """Return the manifest if it has this format."""
    try:
        manifest: dict[str, Any] = json.loads(content)
        found = manifest["format_version"]
        if isinstance(found, int) and found != FORMAT_VERSION:
            raise ValueError(f"a bundle of format version {found}; this is for version {FORMAT_VERSION}")
        calibration, shape, names = manifest["calibration"], manifest["image_shape"], manifest["class_names"]
        fits = (
            found == FORMAT_VERSION
            and manifest["dtype"] in _LARGEST
            and manifest["layout"] in ("NHWC", "NCHW")
            and len(shape) == 3
            and all(type(side) is int and side > 0 for side in shape)
            and all(isinstance(name, str) for name in names)
            and all(_is_member(member, len(names)) for member in manifest["members"])
            and (calibration["method"] == "raw" or _fits(calibration, len(names)))
            and isinstance(calibration["threshold"], float | None)
        )
    except (LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"its manifest is none of format version {FORMAT_VERSION} ({type(error).__name__})") from error
    if not fits:
        raise ValueError(f"its manifest is none of format version {FORMAT_VERSION}")
    return manifest


def _is_member(member: dict[str, Any], classes: int) -> bool:
    return (
        all(type(label) is int and 0 <= label < classes for label in member["classes"])
        and isinstance(member["file"], str)
        # A file must not lie in another folder than the bundle's.
        and Path(member["file"]).name == member["file"]
        and isinstance(member["sha256"], str)
        and isinstance(member["flops"], int | float)
    )


def _fits(calibration: dict[str, Any], classes: int) -> bool:
    weight, bias = (np.array(calibration[name], dtype=np.float64) for name in ("weight", "bias"))
    return weight.ndim == 2 and len(weight) == classes and bias.shape == (classes,)


def _pinned(path: Path, digest: str) -> bytes:
    """Return the content of a file, read once, so that the checked content is the one that runs."""
    content = path.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise ValueError(f"{path.name} is not the file that was registered: SHA-256 {found}, not {digest}")
    return content


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)
