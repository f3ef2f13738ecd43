"""A registered version is self-contained, gives the outputs of the ensemble in memory, and describes itself."""

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.artifacts import download_artifacts
from mlflow.models import ModelSignature, get_model_info
from mlflow.tracking import MlflowClient

from sensai.ensemble import Ensemble
from sensai.ensemble.calibration import RAW
from sensai.pipeline.session import dataset_of
from sensai.registry import versions
from sensai.registry.bundle import export_bundle
from sensai.registry.image_format import ImageFormat
from sensai.registry.versions import register_ensemble
from sensai.stages import retrain
from sensai.stages.evaluate import combining
from sensai.tracking import Store
from tests.helpers.ensembles import NAMES, ensemble_of, images, outputs_of, probabilities
from tests.helpers.pipeline import FinishedMain, Place

NAME = "sensai-ensemble"
URI = f"models:/{NAME}/1"

# The code that another machine runs with a version: it has MLflow, numpy and onnxruntime, and images.
ELSEWHERE = """
import sys
import numpy as np
import mlflow
uri, images, answers = sys.argv[1:]
model = mlflow.pyfunc.load_model(uri)
model.predict(np.load(images)).to_csv(answers, index=False)
print("modules:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


@dataclass(frozen=True)
class Elsewhere:
    """The outputs of a new process, and the modules that it imported."""

    answers: pd.DataFrame
    modules: set[str]


def images_of_test_split(finished: FinishedMain) -> np.ndarray:
    """Return uint8 (N, H, W, C)."""
    test = dataset_of(finished.config).test
    return test.images[test.rows].transpose(0, 2, 3, 1)


@pytest.fixture(scope="module")
def elsewhere(finished_main: FinishedMain, tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    folder = tmp_path_factory.mktemp("elsewhere")
    np.save(folder / "images.npy", images_of_test_split(finished_main))
    result = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, URI, "images.npy", "answers.csv"],
        cwd=folder,
        env={**os.environ, "MLFLOW_TRACKING_URI": finished_main.place.uri, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    modules = re.search(r"^modules: (.*)$", result.stdout, re.MULTILINE)
    assert modules is not None
    return Elsewhere(pd.read_csv(folder / "answers.csv"), set(modules[1].split()))


@pytest.mark.processes
def test_a_fresh_process_answers_as_the_ensemble_in_memory(finished: FinishedMain, elsewhere: Elsewhere) -> None:
    ensemble = retrain.load(Store.connect(), finished.upstream("retrain"))
    calibration = combining.load(Store.connect(), finished.upstream("evaluate"))
    expected = calibration(outputs_of(ensemble, images_of_test_split(finished)), ensemble.groups)
    assert list(elsewhere.answers.columns) == ["top", "middle", "bottom"]
    np.testing.assert_allclose(elsewhere.answers.to_numpy(), expected, atol=1e-5)
    accuracy = (elsewhere.answers.to_numpy().argmax(1) == dataset_of(finished.config).test.labels).mean()
    assert accuracy == pytest.approx(finished.place.run(finished.run_id).data.metrics["accuracy"])


def test_a_fresh_process_needs_neither_torch_nor_sensai(elsewhere: Elsewhere) -> None:
    assert {"mlflow", "numpy", "onnxruntime"} <= elsewhere.modules
    assert not {"torch", "torchvision", "sensai", "analysis"} & elsewhere.modules


def test_its_requirements_are_the_few_that_serving_takes(finished: FinishedMain) -> None:
    file = Path(mlflow.pyfunc.get_model_dependencies(URI))
    names = {re.split("[=<>!~ ]", line)[0] for line in file.read_text().splitlines() if line.strip()}
    assert names == {"mlflow", "numpy", "onnxruntime"}


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 8, 8, 1), np.float64),
        np.zeros((2, 8, 8, 1), np.int64),
        np.zeros((2, 1, 8, 8), np.uint8),
        np.zeros((2, 16, 16, 1), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
    ],
    ids=lambda images: f"{images.dtype}-{images.shape}",
)
def test_other_images_are_refused(finished: FinishedMain, wrong: np.ndarray) -> None:
    model = mlflow.pyfunc.load_model(URI)
    assert len(model.predict(np.zeros((2, 8, 8, 1), np.uint8))) == 2
    with pytest.raises((mlflow.MlflowException, ValueError), match=r"(?i)uint8|shape"):
        model.predict(wrong)


def test_signature_and_example_say_what_goes_in_and_what_comes_out(finished: FinishedMain) -> None:
    info = get_model_info(URI)
    signature = info.signature
    assert isinstance(signature, ModelSignature)
    # MLflow would silently cast images of another dtype to the signature's.
    (tensor,) = signature.inputs.inputs
    assert (tensor.type, tensor.shape) == (np.dtype("object"), (-1,))
    assert info.metadata == {"dtype": "uint8", "layout": "NHWC", "image_shape": [8, 8, 1]}
    assert signature.outputs.input_names() == ["top", "middle", "bottom"]
    model = mlflow.pyfunc.load_model(URI)
    example = np.asarray(model.input_example)
    assert example.shape == (1, 8, 8, 1)
    assert example.max() > 100, "an image of the data set"
    np.testing.assert_allclose(model.predict(example.astype(np.uint8)).sum(axis=1), 1, atol=1e-5)


def test_tags_say_what_people_look_for(finished: FinishedMain) -> None:
    version = finished.place.client.get_model_version(NAME, "1")
    metrics = finished.place.run(finished.upstream("evaluate")).data.metrics
    numbers = {"accuracy", "base_accuracy", "latency_ensemble_ms", "latency_base_ms"}
    for name in numbers:
        assert float(version.tags[name]) == pytest.approx(metrics[name], rel=1e-2), name
    (manifest,) = (
        version.tags.keys() - numbers - {*("dataset", "arch", "pruning", "members", "sensai.upstream.evaluate")}
    )
    assert manifest == "sensai.manifest"
    assert (version.tags["dataset"], version.tags["arch"]) == ("tiny_data.py:tiny", "small_cnn")
    assert (version.tags["pruning"], version.tags["members"]) == ("ratio=0.5", "3")
    assert version.tags["sensai.upstream.evaluate"] == finished.upstream("evaluate")
    assert version.run_id == finished.upstream("register")
    found = finished.place.client.search_model_versions(f"name = '{NAME}' and tags.pruning = 'ratio=0.5'")
    assert [each.version for each in found] == [version.version]


def test_the_rest_of_what_is_known_of_a_version_is_an_artifact_and_its_model_has_the_metrics(
    finished: FinishedMain,
) -> None:
    client = finished.place.client
    version = client.get_model_version(NAME, "1")
    content = json.loads(finished.place.artifact(version.run_id, "version.json").read_text())
    assert content["upstream"] == {
        stage: finished.upstream(stage)
        for stage in ("baseline", "activations", "group", "prune", "retrain", "evaluate")
    }
    assert content["config"]["ratio"] == 0.5
    metrics = finished.place.run(finished.upstream("evaluate")).data.metrics
    assert content["metrics"] == metrics
    model = client.get_logged_model(version.source.rpartition("/")[2])
    assert {each.key: each.value for each in model.metrics} == metrics
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": "1"}]
    # As the UI's list of models asks for them.
    cheap = client.search_logged_models(
        [finished.place.experiment], filter_string=f"metrics.flops_max <= {metrics['flops_max']}"
    )
    assert [each.model_id for each in cheap] == [model.model_id]


def test_the_text_of_a_version_has_all_latencies(finished: FinishedMain) -> None:
    text = finished.place.client.get_model_version(NAME, "1").description
    metrics = finished.place.run(finished.upstream("evaluate")).data.metrics
    for network, name in (("base model", "base"), ("ensemble", "ensemble"), ("largest member", "member_max")):
        (row,) = (line for line in text.splitlines() if line.startswith(f"| {network} |"))
        assert row.endswith(f"| {metrics[f'latency_{name}_ms']:.3f} |")


def test_the_candidate_is_the_version_that_was_registered(finished: FinishedMain) -> None:
    candidate = finished.place.client.get_model_version_by_alias(NAME, "candidate")
    assert int(candidate.version) == finished.place.run(finished.run_id).data.metrics["version"] == 1


def test_the_candidate_moves_to_the_newest_version(empty_database: Path, tmp_path: Path) -> None:
    # These are controls: one network of all classes, in two orders.
    ensembles = [ensemble_of([(0, 1, 2, 3)]), ensemble_of([(3, 2, 1, 0)])]
    with Place.make(tmp_path, empty_database).active() as place:
        run_id = place.client.create_run(place.experiment).info.run_id
        # A threshold of zero rejects no image.
        calibrations = [RAW, replace(RAW, threshold=0.0)]
        numbers = []
        for number, (ensemble, calibration) in enumerate(zip(ensembles, calibrations, strict=True), start=1):
            numbers.append(
                register_ensemble(
                    place.client,
                    run_id,
                    ensemble,
                    calibration,
                    ImageFormat(),
                    images(1),
                    "mine",
                    {"ratio": f"0.{number}"},
                )
            )
            assert int(place.client.get_model_version_by_alias("mine", "candidate").version) == number
        assert numbers == [1, 2]
        # Each keeps its own tags, its own weights and its own columns.
        for number, ensemble in enumerate(ensembles, start=1):
            version_tags = place.client.get_model_version("mine", str(number)).tags
            (manifest,) = Path(download_artifacts(f"models:/mine/{number}")).rglob("manifest.json")
            assert version_tags == {
                "ratio": f"0.{number}",
                "sensai.manifest": hashlib.sha256(manifest.read_bytes()).hexdigest(),
            }
            answer = mlflow.pyfunc.load_model(f"models:/mine/{number}").predict(images(4))
            np.testing.assert_allclose(answer[list(NAMES)], probabilities(ensemble, images(4)), atol=1e-5)
            columns = get_model_info(f"models:/mine/{number}").signature.outputs.input_names()
            assert list(answer.columns) == columns == [*NAMES, *["none_of_them"][: number - 1]]
        newest = mlflow.pyfunc.load_model("models:/mine@candidate").predict(images(4))
        np.testing.assert_allclose(newest[list(NAMES)], probabilities(ensembles[1], images(4)), atol=1e-5)
        assert newest["none_of_them"].tolist() == [False] * 4


@pytest.mark.parametrize(
    "before", [pytest.param("search_model_versions", marks=pytest.mark.long), "set_registered_model_alias"]
)
def test_of_two_that_are_registered_at_once_the_newer_is_the_candidate(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    with Place.make(tmp_path, empty_database).active() as place:

        def add(ensemble: Ensemble) -> int:
            run_id = place.client.create_run(place.experiment).info.run_id
            return register_ensemble(place.client, run_id, ensemble, RAW, ImageFormat(), images(1), "mine", {})

        write, newer = getattr(MlflowClient, before), []

        def overtaken(*arguments: object, **named: object) -> object:
            """Register the second version completely before the first one continues."""
            monkeypatch.setattr(MlflowClient, before, write)
            newer.append(add(ensemble_of([(3, 2, 1, 0)])))
            return write(*arguments, **named)

        monkeypatch.setattr(MlflowClient, before, overtaken)
        assert (add(ensemble_of([(0, 1, 2, 3)])), newer) == (1, [2])
        assert int(place.client.get_model_version_by_alias("mine", "candidate").version) == 2


def test_members_that_answer_otherwise_than_in_memory_are_not_registered(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ensemble_of([(0, 1, 2, 3)])
    with torch.no_grad():
        other.members[0].network.classifier.bias += 1e-3
    monkeypatch.setattr(versions, "export_bundle", lambda _, *rest: export_bundle(other, *rest))
    with Place.make(tmp_path, empty_database).active() as place:
        run_id = place.client.create_run(place.experiment).info.run_id
        with pytest.raises(RuntimeError, match="differ from those of the ensemble in memory"):
            register_ensemble(
                place.client, run_id, ensemble_of([(0, 1, 2, 3)]), RAW, ImageFormat(), images(1), "mine", {}
            )
        assert place.client.search_registered_models() == []
