"""Versions of ensembles in the MLflow model registry."""

import ast
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from sensai.analysis.markdown import markdown_table
from sensai.ensemble import Ensemble
from sensai.ensemble.calibration import Calibration
from sensai.files import temporary_folder, write_text
from sensai.registry import bundle_reader, pyfunc_model
from sensai.registry.bundle import export_bundle
from sensai.registry.bundle_reader import ARTIFACT, PIN, REJECTED, BundleReader
from sensai.registry.image_format import ImageFormat
from sensai.registry.promotion import nominate_newest
from sensai.runtimes import TOLERANCE, largest_error, prepare
from sensai.tracking import tags

_ABOUT = (
    "Ensembles of small members that were cut out of one base model by sensAI. `candidate` is the newest version, `champion` "
    "the one that `promote` chose."
)


_HEADS = {"top5_accuracy": "top-5 accuracy", "params": "parameters", "flops": "FLOPs", "latency_ms": "latency, ms"}
# MLflow refuses longer ones.
_LONGEST_DESCRIPTION = 5000


def register_ensemble(
    client: MlflowClient,
    run_id: str,
    ensemble: Ensemble,
    calibration: Calibration,
    image_format: ImageFormat,
    example: np.ndarray,
    model_name: str,
    version_tags: Mapping[str, str],
    description: str = "",
) -> int:
    """Log an ensemble as one pyfunc into a run and make it the newest version of a registered model.

    Args:
        client: of the store that holds run and registry.
        run_id: the run of the model.
        ensemble: exported to ONNX.
        calibration: turns its members' outputs into probabilities.
        image_format: of the images that it will take.
        example: uint8 (N, H, W, C), kept in that format as the input example.
        model_name: registered model; made if it does not exist.
        version_tags: values to search by: accuracy, ratio, ...
        description: of the version, Markdown.

    Returns:
        The number of the version. The alias `candidate` moves to it unless a newer one was registered meanwhile.

    Raises:
        RuntimeError: the exported members and the ensemble give different outputs for the example.
    """
    with temporary_folder() as parent:
        folder = parent / ARTIFACT
        folder.mkdir()
        script = parent / Path(pyfunc_model.__file__).name
        write_text(script, _script())
        digest = export_bundle(ensemble, calibration, image_format, folder)
        _prove(BundleReader(folder, digest), ensemble, image_format, example)
        model = Model.log(
            artifact_path=None,
            name=ARTIFACT,
            flavor=mlflow.pyfunc,
            run_id=run_id,
            python_model=str(script),
            artifacts={ARTIFACT: str(folder)},
            model_config={PIN: digest},
            signature=_signature(ensemble, calibration),
            metadata={**asdict(image_format), "image_shape": image_format.shape(*ensemble.spec.input_shape)},
            input_example=image_format.of_pixels(example),
            pip_requirements=[f"{package}=={version(package)}" for package in ("numpy", "onnxruntime")],
        )
    _make_registered_model(client, model_name)
    registered = client.create_model_version(
        model_name,
        model.model_uri,
        tags={**version_tags, tags.MANIFEST: digest},
        description=description,
        model_id=model.model_id,
    )
    # A tracking server does so itself; the UI's list of models shows it.
    named = json.dumps([{"name": model_name, "version": str(registered.version)}])
    client.set_logged_model_tags(model.model_id, {MLFLOW_MODEL_VERSIONS: named})
    nominate_newest(client, model_name)
    return int(registered.version)


def tagged_metrics(metrics: Mapping[str, float]) -> dict[str, str]:
    """Return the metrics of an evaluation that a version has as tags."""
    return {name: f"{metrics[name]:.3g}" for name in tags.VERSION_METRICS if name in metrics}


def described(title: str, networks: pd.DataFrame, verdict: str) -> str:
    """Return the description of a version as Markdown.

    Args:
        title: its first line.
        networks: side by side, as `summary_table` gives them.
        verdict: its lines.
    """
    table = markdown_table(networks.rename(columns=_HEADS).rename_axis("test split, this machine").reset_index())
    return "\n".join([title, "", table, "", *(f"{line}  " for line in verdict.splitlines())])[:_LONGEST_DESCRIPTION]


def _script() -> str:
    """Return the registered model as one script: it must run where sensai is not installed."""
    reader, model = (Path(str(module.__file__)).read_text() for module in (bundle_reader, pyfunc_model))
    (own,) = (
        ast.get_source_segment(model, node)
        for node in ast.parse(model).body
        if isinstance(node, ast.ImportFrom) and node.module == bundle_reader.__name__
    )
    return f"{reader}\n\n{model.replace(str(own), '', 1)}"


def describe_version(client: MlflowClient, model_name: str, number: int, description: str) -> None:
    """Replace the description of a registered version, in Markdown."""
    client.update_model_version(model_name, str(number), description)


def _make_registered_model(client: MlflowClient, model_name: str) -> None:
    """Create the registered model unless it exists."""
    try:
        client.create_registered_model(model_name, description=_ABOUT)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def _prove(bundle: BundleReader, ensemble: Ensemble, image_format: ImageFormat, example: np.ndarray) -> None:
    """Ensure that the exported members give the same outputs as those in memory."""
    images, prepared = image_format.of_pixels(example), prepare(ensemble)
    outputs = [bundle.open_member(number)(images) for number in range(len(ensemble.members))]
    error = largest_error(outputs, [member.eager(prepared.normalised(example)) for member in prepared.members])
    if error > TOLERANCE:
        raise RuntimeError(
            f"the outputs of the exported members differ from those of the ensemble in memory, by {error:.2g}"
        )


def _signature(ensemble: Ensemble, calibration: Calibration) -> ModelSignature:
    # MLflow's server silently casts JSON values to the dtype of the signature: with uint8, 0.9 becomes 0 and "7" becomes 7.
    # So the signature leaves the images as they are, and the model checks them.
    images = TensorSpec(np.dtype(object), (-1,))
    columns: list[ColSpec | TensorSpec] = [ColSpec(DataType.float, name) for name in ensemble.class_names]
    if calibration.threshold is not None:
        columns.append(ColSpec(DataType.boolean, REJECTED))
    return ModelSignature(inputs=Schema([images]), outputs=Schema(columns))
