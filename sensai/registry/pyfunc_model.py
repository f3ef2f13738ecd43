"""The registered model, run by MLflow from this very file. Needs numpy and onnxruntime, neither torch nor sensai.

Input: uint8 images (N, H, W, C). Output: a DataFrame with one probability column a class, named by its label, and where images
can be rejected the column `none_of_them`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

# Column that says of an image that it is of none of the classes.
REJECTED = "none_of_them"


class EnsembleModel(PythonModel):
    """All members on the same images; their outputs combined as the manifest says."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open one session a member.

        Raises:
            ValueError: a file is not the one that was registered.
        """
        folder = Path(context.artifacts["ensemble"])
        self.manifest = json.loads((folder / "manifest.json").read_text())
        calibration = self.manifest["calibration"]
        if calibration["method"] != "raw":
            self.weight, self.bias = np.array(calibration["weight"]), np.array(calibration["bias"])
        options = onnxruntime.SessionOptions()
        # Members are small: more threads a member cost more than they give.
        options.intra_op_num_threads = 1
        self.sessions = [
            onnxruntime.InferenceSession(_pinned(folder, member), options, providers=["CPUExecutionProvider"])
            for member in self.manifest["members"]
        ]

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Class probabilities float32 of images uint8 (N, H, W, C), and whether they are of none of the classes.

        Raises:
            ValueError: another dtype or shape.
        """
        images = np.asarray(model_input)
        expected = tuple(self.manifest["image_shape"])
        if images.dtype != np.uint8 or images.shape[1:] != expected:
            raise ValueError(
                f"images must be uint8 of shape (N, {', '.join(map(str, expected))}), not {images.dtype} {images.shape}"
            )
        outputs = [session.run(None, {"images": images})[0].astype(np.float64) for session in self.sessions]
        probabilities = self._combined(outputs)
        answer = pd.DataFrame(probabilities.astype(np.float32), columns=self.manifest["class_names"])
        threshold = self.manifest["calibration"]["threshold"]
        return answer if threshold is None else answer.assign(**{REJECTED: probabilities.max(1) < threshold})

    def _combined(self, outputs: list[np.ndarray]) -> np.ndarray:
        """float64 (N, K): as `Calibration` of sensai.ensemble.calibration computes it."""
        calibration = self.manifest["calibration"]
        if calibration["method"] != "raw":
            return _softmax(np.concatenate(outputs, axis=1) @ self.weight.T + self.bias)
        scores = np.zeros((len(outputs[0]), len(self.manifest["class_names"])))
        for member, logits in zip(self.manifest["members"], outputs, strict=True):
            # One logit is that of outcome 1 against an outcome 0 of logit zero.
            shares = _softmax(np.pad(logits, ((0, 0), (1, 0))) if logits.shape[1] == 1 else logits)
            scores[:, member["classes"]] = shares[:, -len(member["classes"]) :]
        scores += np.finfo(scores.dtype).tiny
        return scores / scores.sum(1, keepdims=True)


def _pinned(folder: Path, member: dict[str, Any]) -> bytes:
    """A member's file, read once, so that what is checked is what runs."""
    content = (folder / member["file"]).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != member["sha256"]:
        raise ValueError(
            f"{member['file']} is not the file that was registered: SHA-256 {digest}, not {member['sha256']}"
        )
    return content


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


set_model(EnsembleModel())
