"""The registered model, as MLflow runs it. It needs numpy, onnxruntime and pandas, but neither torch nor sensai.

MLflow runs the script of a version, which is `bundle_reader` and this module in one file (see `sensai.registry.versions`).

Input: images of the dtype and layout in the manifest, by default uint8 (N, H, W, C). Output: a DataFrame with one
probability column a class, named by its label. If images can be rejected, it also has the column `none_of_them`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from sensai.registry.bundle_reader import ARTIFACT, PIN, REJECTED, BundleReader, LocalEnsemble, RefusedImagesError


class RefusedRequestError(MlflowException):
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


class Bundle(BundleReader):
    """The files of an ensemble, as a server uses them."""

    def checked(self, images: Any) -> np.ndarray:
        """Return the images if the ensemble takes them.

        Raises:
            RefusedRequestError: another dtype or shape, or values out of range; the message has the reason.
        """
        try:
            return super().checked(images)
        except RefusedImagesError as error:
            raise RefusedRequestError(str(error)) from None

    def answer(self, outputs: list[np.ndarray]) -> pd.DataFrame:
        """Return class probabilities float32 from the outputs of all members, and whether an image belongs to none of the
        classes.
        """
        probabilities = self.probabilities(outputs)
        answer = pd.DataFrame(probabilities.astype(np.float32), columns=self.manifest["class_names"])
        rejected = self.rejected(probabilities)
        return answer if rejected is None else answer.assign(**{REJECTED: rejected})


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
        self._ensemble = LocalEnsemble(bundle)

    def predict(
        self, context: PythonModelContext | None, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return class probabilities float32 of images, and whether they belong to none of the classes.

        Raises:
            RefusedRequestError: images of another dtype or shape than in the manifest, or values out of range.
        """
        return self.bundle.answer(self._ensemble.outputs(self.bundle.checked(model_input)))


set_model(EnsembleModel())
