"""The registered model, run by MLflow from this very file. Needs numpy and onnxruntime, neither torch nor sensai.

Input: uint8 images (N, H, W, C). Output: a DataFrame with one probability column a class, named by its label.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class EnsembleModel(PythonModel):
    """All members on the same images; their raw scores divided by the image's sum."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open one session a member."""
        folder = Path(context.artifacts["ensemble"])
        self.manifest = json.loads((folder / "manifest.json").read_text())
        options = onnxruntime.SessionOptions()
        # Members are small: more threads a member cost more than they give.
        options.intra_op_num_threads = 1
        self.sessions = [
            onnxruntime.InferenceSession(folder / member["file"], options, providers=["CPUExecutionProvider"])
            for member in self.manifest["members"]
        ]

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Class probabilities of images uint8 (N, H, W, C).

        Raises:
            ValueError: another dtype or shape.
        """
        images = np.asarray(model_input)
        expected = tuple(self.manifest["image_shape"])
        if images.dtype != np.uint8 or images.shape[1:] != expected:
            raise ValueError(
                f"images must be uint8 of shape (N, {', '.join(map(str, expected))}), not {images.dtype} {images.shape}"
            )
        scores = np.zeros((len(images), len(self.manifest["class_names"])), np.float32)
        for member, session in zip(self.manifest["members"], self.sessions, strict=True):
            scores[:, member["classes"]] = session.run(None, {"images": images})[0]
        scores += np.finfo(np.float32).tiny
        return pd.DataFrame(scores / scores.sum(1, keepdims=True), columns=self.manifest["class_names"])


set_model(EnsembleModel())
