"""`mlflow models serve` over HTTP: the outputs of the ensemble in memory, and a reason for refused images."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sensai.registry.image_format import ImageFormat
from tests.helpers.asking import BAD_VALUES, ask, predictions, reason, with_value
from tests.helpers.ensembles import NAMES, ensemble_of, images, probabilities, register
from tests.helpers.pipeline import Place
from tests.helpers.server import model_server

pytestmark = pytest.mark.processes


ENSEMBLE = ensemble_of([(3, 0), (2,), (1,)])
FORMATS = {"uint8": ImageFormat(), "float32": ImageFormat("float32")}


@pytest.fixture(scope="module", params=["uint8", pytest.param("float32", marks=pytest.mark.long)])
def served(
    request: pytest.FixtureRequest, empty_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """Yield the dtype of the images, and the URL for predictions."""
    place = Place.make(tmp_path_factory.mktemp("served"), empty_database)
    uri = register(place, "mine", ENSEMBLE, image_format=FORMATS[request.param])
    with place.active(), model_server(uri, place.uri, place.folder) as url:
        yield request.param, url


@pytest.mark.parametrize("key", ["inputs", "instances"])
def test_the_answers_are_those_of_the_ensemble_in_memory(served: tuple[str, str], key: str) -> None:
    dtype, url = served
    answers = predictions(url, FORMATS[dtype].of_pixels(images(5)), key)
    assert list(answers.columns) == list(NAMES)
    np.testing.assert_allclose(answers.to_numpy(), probabilities(ENSEMBLE, images(5)), atol=1e-5)


def test_values_of_another_kind_are_refused_with_the_reason(served: tuple[str, str]) -> None:
    dtype, url = served
    good = FORMATS[dtype].of_pixels(images(2))
    for value, said in BAD_VALUES[dtype]:
        answer = ask(url, {"inputs": with_value(good, value)})
        assert answer.status_code == 400, value
        # MLflow itself would answer "Failed to predict data" with all images before it.
        assert re.match(f"images {said}", reason(answer)), value


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"inputs": images(2)[:, :-1].tolist()}, r"images must be \w+ of shape \(N, 9, 8, 1\), not \w+ \(2, 8, 8, 1\)"),
        ({"inputs": images(1)[0].tolist()}, r"of shape \(N, 9, 8, 1\), not \w+ \(9, 8, 1\)"),
        ({"inputs": [[1, 2], [3]]}, r"of shape \(N, 9, 8, 1\), not object \(2,\)"),
        ({"inputs": 5}, r"of shape \(N, 9, 8, 1\), not \w+ \(\)"),
        ({"images": images(1).tolist()}, "exactly one of the input fields"),
        ([1], "must be a JSON dictionary"),
        ("{", "valid JSON"),
    ],
)
def test_what_are_no_images_is_refused_with_the_reason(served: tuple[str, str], body: object, said: str) -> None:
    answer = ask(served[1], body)
    assert answer.status_code == 400
    assert re.search(said, reason(answer))
