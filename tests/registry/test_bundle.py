"""An ensemble as ONNX files and the script that serves them gives the outputs of the ensemble in memory."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModelContext

from sensai.ensemble import Ensemble
from sensai.ensemble.calibration import RAW, Calibration, fit
from sensai.ensemble.combiners import COMBINERS
from sensai.registry.bundle import export_bundle
from sensai.registry.bundle_reader import PIN
from sensai.registry.image_format import Dtype, ImageFormat, Layout
from sensai.registry.pyfunc_model import EnsembleModel
from tests.helpers.ensembles import NAMES, SHAPE, ensemble_of, images, outputs_of, probabilities

# A pair of classes that are neither adjacent nor in order, and two single classes.
GROUPS = [(3, 0), (2,), (1,)]


def served(folder: Path) -> EnsembleModel:
    pin = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    model = EnsembleModel()
    model.load_context(PythonModelContext(artifacts={"ensemble": str(folder)}, model_config={PIN: pin}))
    return model


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ensemble, Path]:
    ensemble, folder = ensemble_of(GROUPS), tmp_path_factory.mktemp("grouped")
    before = {name: value.clone() for name, value in ensemble.state_dict().items()}
    export_bundle(ensemble, RAW, ImageFormat(), folder)
    assert not ensemble.training
    assert all(torch.equal(value, before[name]) for name, value in ensemble.state_dict().items())
    return ensemble, folder


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ensemble, Path]:
    ensemble, folder = ensemble_of([(1, 0, 3, 2)]), tmp_path_factory.mktemp("control")
    export_bundle(ensemble, RAW, ImageFormat(), folder)
    return ensemble, folder


def recalibrated(folder: Path, target: Path, calibration: Calibration) -> Path:
    """Return a copy of a bundle with another calibration, since exporting the same members again takes seconds."""
    shutil.copytree(folder, target)
    manifest = json.loads((folder / "manifest.json").read_text())
    (target / "manifest.json").write_text(json.dumps(manifest | {"calibration": calibration.to_json()}))
    return target


@pytest.mark.parametrize("count", [1, 2, 5])
def test_groups_and_single_classes_answer_alike(grouped: tuple[Ensemble, Path], count: int) -> None:
    ensemble, folder = grouped
    expected = probabilities(ensemble, images(count))
    answer = served(folder).predict(None, images(count))
    assert list(answer.columns) == list(NAMES)
    np.testing.assert_allclose(answer.to_numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)
    # The members differ, so that swapped classes would show.
    assert np.ptp(expected, axis=1).min() > 1e-3


def test_a_system_that_does_not_tell_a_process_its_cores_answers_too(
    grouped: tuple[Ensemble, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # macOS has no such function.
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    ensemble, folder = grouped
    answer = served(folder).predict(None, images(2))
    np.testing.assert_allclose(answer.to_numpy(), probabilities(ensemble, images(2)), atol=1e-5)


@pytest.mark.parametrize("method", COMBINERS)
@pytest.mark.parametrize("bundle", ["grouped", "control"])
def test_every_calibration_is_served_as_it_is_in_memory(
    method: str, bundle: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    ensemble, folder = request.getfixturevalue(bundle)
    outputs = outputs_of(ensemble, images(40))
    calibration = fit(method, outputs, ensemble.groups, np.arange(40) % 4)
    expected = calibration(outputs, ensemble.groups)
    answer = served(recalibrated(folder, tmp_path / "bundle", calibration)).predict(None, images(40))
    assert list(answer.columns) == list(NAMES)
    assert set(answer.dtypes) == {np.dtype(np.float32)}
    np.testing.assert_allclose(answer.to_numpy(), expected, atol=1e-5)
    assert method == "raw" or np.abs(expected - RAW(outputs, ensemble.groups)).max() > 1e-3


def test_what_is_none_of_them_is_said_beside_the_probabilities(grouped: tuple[Ensemble, Path], tmp_path: Path) -> None:
    ensemble, folder = grouped
    largest = probabilities(ensemble, images(40)).max(1)
    calibration = replace(RAW, threshold=float(np.median(largest)))
    answer = served(recalibrated(folder, tmp_path / "bundle", calibration)).predict(None, images(40))
    assert list(answer.columns) == [*NAMES, "none_of_them"]
    assert answer["none_of_them"].tolist() == (largest < np.median(largest)).tolist()
    assert answer["none_of_them"].sum() == 20


def test_where_no_member_wants_the_image_all_classes_are_alike(tmp_path: Path) -> None:
    ensemble = ensemble_of([(0,), (1, 2, 3)])
    with torch.no_grad():
        ensemble.members[0].network.classifier.bias.fill_(-1e4)
        ensemble.members[1].network.classifier.bias.copy_(torch.tensor([1e4, 0.0, 0.0, 0.0]))
    export_bundle(ensemble, RAW, ImageFormat(), tmp_path)
    answer = served(tmp_path).predict(None, images(2)).to_numpy()
    np.testing.assert_allclose(answer, 0.25)
    np.testing.assert_allclose(probabilities(ensemble, images(2)), 0.25)


def test_the_manifest_says_who_answers_for_what(grouped: tuple[Ensemble, Path]) -> None:
    _, folder = grouped
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["class_names"] == list(NAMES)
    assert manifest["image_shape"] == list(SHAPE)
    assert [tuple(member["classes"]) for member in manifest["members"]] == GROUPS
    assert manifest["format_version"] == 3
    assert manifest["calibration"] == RAW.to_json()
    files = [member["file"] for member in manifest["members"]]
    assert len(set(files)) == 3
    # Each member is one file, weights included.
    assert {path.name for path in folder.iterdir()} == {"manifest.json", *files}
    for file in files:
        model = onnx.load(folder / file, load_external_data=False)
        onnx.checker.check_model(model)
        assert not [each.name for each in model.graph.initializer if each.external_data]


def test_a_file_that_was_changed_is_refused(grouped: tuple[Ensemble, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(grouped[1], tmp_path / "copy")
    served(folder)
    # The file of another member, which would run.
    shutil.copy(folder / "member_001.onnx", folder / "member_002.onnx")
    with pytest.raises(ValueError, match=r"member_002\.onnx is not the file that was registered: SHA-256 "):
        served(folder)


@pytest.fixture(scope="module")
def float_model(grouped: tuple[Ensemble, Path], tmp_path_factory: pytest.TempPathFactory) -> EnsembleModel:
    folder = tmp_path_factory.mktemp("float32")
    export_bundle(grouped[0], RAW, ImageFormat("float32", "NCHW"), folder)
    return served(folder)


def test_images_may_come_as_numbers_from_0_to_1_channels_first(
    grouped: tuple[Ensemble, Path], float_model: EnsembleModel
) -> None:
    pixels = images(5)
    answer = float_model.predict(None, np.float32(pixels.transpose(0, 3, 1, 2) / 255))
    np.testing.assert_allclose(answer.to_numpy(), probabilities(grouped[0], pixels), atol=1e-5)


@pytest.mark.parametrize(
    ("value", "said"), [(1.01, "0 to 1.01"), (-0.1, "-0.1 to 0"), (np.nan, "nan to nan"), (np.inf, "0 to inf")]
)
def test_numbers_out_of_range_are_refused(float_model: EnsembleModel, value: float, said: str) -> None:
    wrong = np.zeros((2, 1, 9, 8), np.float32)
    wrong[1, 0, 3, 4] = value
    with pytest.raises(MlflowException, match=rf"^images must have values in \[0, 1\], not {said}$"):
        float_model.predict(None, wrong)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_pixels_are_brought_into_every_format_and_back(dtype: Dtype, layout: Layout) -> None:
    taken = ImageFormat(dtype, layout)
    pixels = images(3)
    given = taken.of_pixels(pixels)
    height, width, channels = SHAPE
    assert given.dtype == dtype
    assert given.shape[1:] == taken.shape(channels, height, width)
    assert taken.pixels_shape(given.shape[1:]) == SHAPE
    back = taken.to_pixels(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(back, pixels.transpose(0, 3, 1, 2), atol=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, *SHAPE), np.float32),
        np.zeros((2, *SHAPE), np.int64),
        np.zeros((2, 1, 9, 8), np.uint8),
        np.zeros((2, 8, 8, 1), np.uint8),
        np.zeros((2, 9, 8, 3), np.uint8),
        np.zeros(SHAPE, np.uint8),
    ],
    ids=lambda images: f"{images.dtype}-{images.shape}",
)
def test_other_images_are_refused(grouped: tuple[Ensemble, Path], wrong: np.ndarray) -> None:
    with pytest.raises(MlflowException, match=r"images must be uint8 of shape \(N, 9, 8, 1\), not "):
        served(grouped[1]).predict(None, wrong)
