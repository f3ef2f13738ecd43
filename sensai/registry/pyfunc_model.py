"""The registered model, which MLflow runs from this file. It needs numpy and onnxruntime, but neither torch nor sensai.

Input: images of the dtype and layout in the manifest, by default uint8 (N, H, W, C). Output: a DataFrame with one
probability column a class, named by its label. If images can be rejected, it also has the column `none_of_them`.
"""

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

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


class RefusedImagesError(MlflowException):
    """Images that an ensemble does not take; servers answer with status 400 and the reason.

    MLflow's server puts all the images as text before the message of an exception. This one keeps only its own message.
    """

    def __init__(self, reason: str) -> None:
        self._reason = reason
        super().__init__(reason, error_code=INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        """Return the reason."""
        return self._reason

    @message.setter
    def message(self, _: str) -> None:
        pass


class Bundle:
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

    @property
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

    def answer(self, outputs: list[np.ndarray]) -> pd.DataFrame:
        """Return class probabilities float32 from the outputs of all members, and whether an image belongs to none of the
        classes.
        """
        probabilities = self._combined([each.astype(np.float64) for each in outputs])
        answer = pd.DataFrame(probabilities.astype(np.float32), columns=self.manifest["class_names"])
        threshold = self.manifest["calibration"]["threshold"]
        return answer if threshold is None else answer.assign(**{REJECTED: probabilities.max(1) < threshold})

    def _combined(self, outputs: list[np.ndarray]) -> np.ndarray:
        """Return float64 (N, K), as `Calibration` of sensai.ensemble.calibration computes it."""
        if self.manifest["calibration"]["method"] != "raw":
            return _softmax(np.concatenate(outputs, axis=1) @ self._weight.T + self._bias)
        scores = np.zeros((len(outputs[0]), len(self.manifest["class_names"])))
        members = np.zeros(scores.shape[1])
        for member, logits in zip(self.manifest["members"], outputs, strict=True):
            # One logit is that of outcome 1 against an outcome 0 of logit zero.
            shares = _softmax(np.pad(logits, ((0, 0), (1, 0))) if logits.shape[1] == 1 else logits)
            scores[:, member["classes"]] += shares[:, -len(member["classes"]) :]
            members[member["classes"]] += 1
        scores = scores / members
        scores += np.finfo(scores.dtype).tiny
        return scores / scores.sum(1, keepdims=True)


class EnsembleModel(PythonModel):
    """All members on the same images, at the same time on the cores of this machine."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the artifacts that MLflow loaded; the digest is part of them, so this check finds only damaged files.

        Raises:
            ValueError: a file is not the one that was registered.
        """
        self.open(Bundle(Path(context.artifacts[ARTIFACT]), context.model_config[PIN]))

    def open(self, bundle: Bundle) -> None:
        """Open one session a member.

        Raises:
            ValueError: a file is not the one that was registered.
        """
        self.bundle = bundle
        members = self.bundle.manifest["members"]
        cores = _cores()
        self._runs = [self.bundle.open_member(number, max(cores // len(members), 1)) for number in range(len(members))]
        # The most expensive members begin first, so that none of them runs alone at the end.
        self._order = sorted(range(len(members)), key=lambda number: -members[number]["flops"])
        workers = min(cores, len(members))
        self._pool = ThreadPoolExecutor(workers, "sensai-member") if workers > 1 else None

    def predict(
        self, context: PythonModelContext | None, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return class probabilities float32 of images, and whether they belong to none of the classes.

        Raises:
            RefusedImagesError: images of another dtype or shape than in the manifest, or values out of range.
        """
        images = self.bundle.checked(model_input)
        each = map if self._pool is None else self._pool.map
        outputs = dict(zip(self._order, each(lambda number: self._runs[number](images), self._order), strict=True))
        return self.bundle.answer([outputs[number] for number in range(len(outputs))])


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


set_model(EnsembleModel())
