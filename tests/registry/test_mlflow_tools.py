"""MLflow's own tools take a version: prediction from a file, evaluation, and a Dockerfile."""

import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import mlflow.models.cli
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from tests.helpers.ensembles import NAMES, ensemble_of, images, probabilities, register
from tests.helpers.pipeline import Place

ENSEMBLE = ensemble_of([(3, 0), (2,), (1,)])
URI = "models:/mine/1"


@pytest.fixture(scope="module")
def registered(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place.make(tmp_path_factory.mktemp("tools"), empty_database)
    register(place, "mine", ENSEMBLE)
    with place.active():
        yield place


def test_predict_in_this_environment_answers_as_the_ensemble(registered: Place, tmp_path: Path) -> None:
    with registered.active():
        mlflow.models.predict(
            URI, input_data=images(3), env_manager="local", output_path=str(tmp_path / "answers.json")
        )
    answers = pd.DataFrame(json.loads((tmp_path / "answers.json").read_text())["predictions"])
    assert list(answers.columns) == list(NAMES)
    np.testing.assert_allclose(answers.to_numpy(), probabilities(ENSEMBLE, images(3)), atol=1e-5)


@pytest.mark.long
def test_evaluate_logs_its_metrics_on_the_version(registered: Place) -> None:
    """As README shows it: MLflow takes tables, so a function makes images of them and labels of answers."""
    batch = images(20)
    right = np.array(NAMES)[probabilities(ENSEMBLE, batch).argmax(1)]
    labels = np.where(np.arange(20) < 5, np.roll(NAMES, 1)[probabilities(ENSEMBLE, batch).argmax(1)], right)
    with registered.active():
        model = mlflow.pyfunc.load_model(URI)
        found = mlflow.models.evaluate(
            lambda table: model.predict(np.stack(list(table["image"]))).idxmax(axis=1),
            pd.DataFrame({"image": list(batch), "label": labels}),
            targets="label",
            model_type="classifier",
            evaluator_config={"log_explainer": False},
            model_id=model.model_id,
        )
        assert found.metrics["accuracy_score"] == 0.75
        logged = {each.key: each.value for each in registered.client.get_logged_model(model.model_id).metrics}
    assert logged["accuracy_score"] == 0.75


def test_a_dockerfile_has_the_model_and_what_it_requires(registered: Place, tmp_path: Path) -> None:
    with registered.active():
        done = CliRunner().invoke(
            mlflow.models.cli.commands, ["generate-dockerfile", "--model-uri", URI, "--output-directory", str(tmp_path)]
        )
    assert done.exit_code == 0, done.output
    assert "COPY model_dir /opt/ml/model" in (tmp_path / "Dockerfile").read_text()
    assert (tmp_path / "model_dir" / "artifacts" / "ensemble" / "manifest.json").exists()
    requirements = (tmp_path / "model_dir" / "requirements.txt").read_text()
    assert {line.partition("=")[0] for line in requirements.splitlines()} == {"mlflow", "numpy", "onnxruntime"}
