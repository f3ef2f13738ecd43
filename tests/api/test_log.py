"""An ensemble that was made in Python, in MLflow: the entry points take it like those that they registered themselves."""

import json

import mlflow
import numpy as np
import pytest
import torch

import sensai
from sensai.config import PromoteConfig
from sensai.errors import InputError
from sensai.registry.registered import open_model
from sensai.stages import promote
from tests.api.conftest import Made
from tests.helpers.live_network import digits


def test_a_logged_version_answers_promotes_and_shows_its_evaluation(made: Made, store_uri: str) -> None:
    logged = sensai.log(made.ensemble, made.result, model_name="digits")
    assert (logged.version, str(logged)) == (1, "models:/digits/1")
    client = mlflow.MlflowClient(store_uri)
    images = (digits()["test"][0] * 255).round().to(torch.uint8)
    with open_model(client, logged.uri) as model, torch.no_grad():
        answers = model.predict(None, images.permute(0, 2, 3, 1).numpy())
        expected = made.ensemble(images)
    np.testing.assert_allclose(answers.to_numpy(), expected.numpy(), atol=1e-5)
    run = client.get_run(logged.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["accuracy"] == made.result.metrics["accuracy"]
    assert {each.path for each in client.list_artifacts(logged.run_id)} >= {"answers.csv", "members.csv", "table.csv"}
    version = client.get_model_version("digits", "1")
    assert made.result.verdict.splitlines()[0] in version.description
    promote.run(PromoteConfig(model_name="digits", max_accuracy_drop=1.0, cost="flops"))
    assert client.get_model_version_by_alias("digits", "champion").run_id == logged.run_id


def test_an_active_run_gets_everything(made: Made, store_uri: str) -> None:
    with mlflow.start_run() as active:
        logged = sensai.log(made.ensemble, made.result)
        assert logged.run_id == active.info.run_id
        assert mlflow.MlflowClient(store_uri).get_run(logged.run_id).info.status == "RUNNING"
    run = mlflow.MlflowClient(store_uri).get_run(logged.run_id)
    assert run.data.metrics["version"] == 1
    assert json.loads(run.data.tags["sensai.host"])


@pytest.mark.long
def test_images_of_an_unknown_normalisation_are_not_served(made: Made, store_uri: str) -> None:
    images, labels = digits()["train"]
    shifted = (images - 0.3) / 0.3
    unknown = sensai.prune(made.model, sensai.score(made.model, (shifted, labels)))
    with pytest.raises(InputError, match="mean=None: the scored images were not from 0 to 1"):
        sensai.log(unknown)
    statistics = sensai.score(made.model, (shifted, labels), mean=0.3, std=0.3)
    known = sensai.prune(made.model, statistics)
    logged = sensai.log(known, model_name="shifted")
    pixels = (images[:9] * 255).round().to(torch.uint8)
    with open_model(mlflow.MlflowClient(store_uri), logged.uri) as model, torch.no_grad():
        answers = model.predict(None, pixels.permute(0, 2, 3, 1).numpy())
        expected = known((pixels.float() / 255 - 0.3) / 0.3)
    np.testing.assert_allclose(answers.to_numpy(), expected.numpy(), atol=1e-5)
