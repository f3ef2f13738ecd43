"""One contract for every server of an ensemble: in one process, on a Ray cluster and, for what it offers, MLflow's own."""

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
from PIL import Image

from sensai.data.images.single_images import from_files
from sensai.registry.image_format import ImageFormat
from tests.helpers.asking import BAD_VALUES, ask, predictions, reason, with_value
from tests.helpers.ensembles import NAMES, SHAPE, images, probabilities
from tests.helpers.pipeline import Place
from tests.helpers.server import model_server
from tests.serving.conftest import ENSEMBLE, FORMATS, OPTIONS, SECONDS, URI, local_server, started

pytestmark = pytest.mark.processes

# The same application answers on Ray; what is Ray's own stands in test_ray_server.py.
OURS = [
    pytest.param(("local", "uint8"), id="local-uint8"),
    pytest.param(("local", "float32"), id="local-float32"),
    pytest.param(("ray", "uint8"), id="ray-uint8", marks=pytest.mark.long),
]
ALL = [
    *OURS,
    pytest.param(("mlflow", "uint8"), id="mlflow-uint8"),
    pytest.param(("mlflow", "float32"), id="mlflow-float32", marks=pytest.mark.long),
]
MOST_BYTES = OPTIONS.limits.body


@dataclass(frozen=True)
class Server:
    """A server under test.

    Attributes:
        kind: local, ray or mlflow.
        url: its address.
        format: of the images that its version takes.
    """

    kind: str
    url: str
    format: ImageFormat

    @property
    def shape(self) -> str:
        """Return the shape of images as a pattern in messages."""
        height, width, channels = SHAPE
        return rf"\(N, {', '.join(map(str, self.format.shape(channels, height, width)))}\)"


@pytest.fixture(scope="module")
def server(
    request: pytest.FixtureRequest, places: Callable[[str], Place], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    kind, dtype = request.param
    with _url(kind, places(dtype), tmp_path_factory.mktemp("contract")) as url:
        yield Server(kind, url, FORMATS[dtype])


@contextmanager
def _url(kind: str, place: Place, folder: Path) -> Iterator[str]:
    if kind == "mlflow":
        with place.active(), model_server(URI, place.uri, folder) as url:
            yield url
    elif kind == "local":
        with local_server(place) as (url, _):
            yield url
    else:
        pytest.importorskip("ray.serve", reason="the extra `serve` is not installed", exc_type=ImportError)
        with started(place, folder, backend="ray", shards=2, body_limit=1) as url:
            yield url


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def send(server: Server, content: bytes, kind: str = "application/octet-stream") -> requests.Response:
    return requests.post(f"{server.url}/invocations", content, headers={"Content-Type": kind}, timeout=SECONDS)


def check_answers(answer: requests.Response, batch: np.ndarray) -> None:
    """Assert that an answer has the probabilities of images uint8 (N, H, W, C)."""
    assert answer.status_code == 200, answer.text
    given = pd.DataFrame(answer.json()["predictions"])
    assert list(given.columns) == list(NAMES)
    np.testing.assert_allclose(given.to_numpy(), probabilities(ENSEMBLE, batch), atol=1e-5)


@pytest.mark.parametrize("server", ALL, indirect=True)
@pytest.mark.parametrize("key", ["inputs", "instances"])
def test_the_answers_to_json_are_those_of_the_ensemble_in_memory(server: Server, key: str) -> None:
    answers = predictions(server.url, server.format.of_pixels(images(5)), key)
    assert list(answers.columns) == list(NAMES)
    np.testing.assert_allclose(answers.to_numpy(), probabilities(ENSEMBLE, images(5)), atol=1e-5)


@pytest.mark.parametrize("server", ALL, indirect=True)
def test_values_of_another_kind_are_refused_with_the_reason(server: Server) -> None:
    good = server.format.of_pixels(images(2))
    for value, said in BAD_VALUES[server.format.dtype]:
        answer = ask(server.url, {"inputs": with_value(good, value)})
        assert answer.status_code == 400, value
        # MLflow itself would answer "Failed to predict data" with all images before it.
        assert re.match(f"images {said}", reason(answer)), value


@pytest.mark.parametrize("server", ALL, indirect=True)
def test_what_are_no_images_is_refused_with_the_reason(server: Server) -> None:
    batch = server.format.of_pixels(images(2))
    for body, said in [
        ({"inputs": batch[:, :, :-1].tolist()}, rf"images must be \w+ of shape {server.shape}, not \w+ \(2, "),
        ({"inputs": batch[0].tolist()}, rf"of shape {server.shape}, not \w+ \("),
        ({"inputs": [[1, 2], [3]]}, rf"of shape {server.shape}, not object \(2,\)"),
        ({"inputs": 5}, rf"of shape {server.shape}, not \w+ \(\)"),
        ({"images": batch.tolist()}, "one of the"),
        ([1], "must be a JSON"),
        ("{", "JSON"),
    ]:
        answer = ask(server.url, body)
        assert answer.status_code == 400, body
        assert re.search(said, reason(answer)), body


@pytest.mark.parametrize("server", OURS, indirect=True)
def test_what_only_looks_like_a_request_is_refused(server: Server) -> None:
    for body, said in [
        ({"inputs": []}, rf"of shape {server.shape}, not float64 \(0,\)"),
        ({"inputs": [], "instances": []}, "one of the keys inputs and instances"),
        ("[" * 100_000, "must be JSON"),
    ]:
        answer = ask(server.url, body)
        assert answer.status_code == 400, body
        assert re.search(said, reason(answer)), body


@pytest.mark.parametrize("server", OURS, indirect=True)
def test_arrays_are_answered_one_image_or_many(server: Server) -> None:
    for batch in (images(1), images(5), images(150)):
        check_answers(send(server, npy(server.format.of_pixels(batch))), batch)
    check_answers(send(server, npy(server.format.of_pixels(images(1))[0])), images(1))
    in_columns = np.asfortranarray(server.format.of_pixels(images(3)))
    check_answers(send(server, npy(in_columns)), images(3))


@pytest.mark.parametrize("server", OURS, indirect=True)
def test_arrays_of_another_kind_are_refused_with_the_reason(server: Server) -> None:
    batch = server.format.of_pixels(images(2))
    whole = npy(batch)
    huge = npy(batch).replace(b"(2,", b"(2000000000000,").replace(b" " * 12, b"", 1)
    for content, said in [
        (npy(batch[:, :, :-1]), rf"images must be \w+ of shape {server.shape}, not \w+ \(2, "),
        (npy(batch.astype(np.float64)), "not float64"),
        (npy(batch.astype(">f4")), r"not >f4|not float32"),
        (npy(batch[:0]), "at least one image"),
        (whole[:-1], r"the array's header says .* follow"),
        (whole + b"0", r"the array's header says .* follow"),
        (huge, r"the array's header says|\.npy file"),
        (npy(np.array(["a", "b"])), "images must be"),
        (whole[:20], r"must be a \.npy file"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': [[[[[[", r"must be a \.npy file"),
        (b"", r"must be a \.npy file"),
        (b"PK\x03\x04", r"must be a \.npy file"),
    ]:
        answer = send(server, content)
        assert answer.status_code == 400, said
        assert re.search(said, reason(answer)), (said, reason(answer))


def test_an_array_of_objects_is_not_unpickled() -> None:
    """Covered without a server, since the array's header alone decides."""
    from sensai.serving.protocol import parse_array

    class Bundle:
        image_shape = SHAPE

    file = io.BytesIO()
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(Exception, match="must be of numbers"):
        parse_array(file.getvalue(), Bundle())  # type: ignore[arg-type]


@pytest.mark.parametrize("server", OURS, indirect=True)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_image_files_are_fitted_as_predict_fits_them(server: Server, kind: str, tmp_path: Path) -> None:
    for size in [(SHAPE[1], SHAPE[0]), (30, 41)]:
        path = tmp_path / f"image.{kind.lower()}"
        values = np.random.default_rng(1).integers(0, 256, (size[1], size[0]), dtype=np.uint8)
        Image.fromarray(values).save(path, kind, **({"lossless": True} if kind == "WEBP" else {}))
        (frame,) = from_files(path, SHAPE)
        assert not hasattr(frame, "reason")
        check_answers(send(server, path.read_bytes(), f"image/{kind.lower()}"), frame.pixels[None])


@pytest.mark.parametrize("server", OURS, indirect=True)
def test_image_files_that_cannot_be_read_are_refused_with_the_reason(server: Server) -> None:
    def saved(image: Image.Image, kind: str) -> bytes:
        file = io.BytesIO()
        image.save(file, kind)
        return file.getvalue()

    coloured = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8))
    for content, said in [
        (saved(coloured, "PNG"), "coloured, and the network takes 1 channel"),
        (saved(coloured, "PNG")[:-60], "is broken"),
        (saved(Image.new("L", (9000, 9000)), "PNG"), "too large: 9000 x 9000 pixels"),
        (saved(coloured, "BMP"), "not an image that can be read: allowed are JPEG, PNG, WEBP"),
        (b"", "not an image that can be read"),
    ]:
        answer = send(server, content, "image/png")
        assert answer.status_code == 400, said
        assert said in reason(answer)


@pytest.mark.parametrize("server", OURS, indirect=True)
def test_other_content_types_are_refused(server: Server) -> None:
    for content_type in ["text/csv", "application/jsonl", "", "application/x-www-form-urlencoded", "image/tiff"]:
        answer = ask(server.url, {"inputs": []}, **{"Content-Type": content_type})
        assert answer.status_code == 415
        assert reason(answer).startswith(
            "the content type must be application/json, application/octet-stream for a .npy"
        )
        assert reason(answer).endswith(f"not {content_type!r}")


@pytest.mark.parametrize("server", OURS, indirect=True)
def test_json_may_name_its_characters(server: Server) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    body = {"inputs": server.format.of_pixels(images(1)).tolist()}
    assert ask(server.url, body, **headers).status_code == 200


@pytest.mark.parametrize("server", OURS, indirect=True)
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks"])
def test_a_body_that_is_too_large_is_not_read(server: Server, announced: bool) -> None:
    """Of one in chunks nobody knows how much there is."""
    sent, chunk = 0, b"[" + b" " * 2**16
    all_of_it = 2**28

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        while sent < all_of_it:
            sent += len(chunk)
            yield chunk

    host, port = server.url.removeprefix("http://").split(":")
    connection = HTTPConnection(host, int(port), timeout=SECONDS)
    headers = {"Content-Type": "application/json"} | ({"Content-Length": str(all_of_it)} if announced else {})
    # The server may answer and close the connection before the whole body is sent.
    try:
        connection.request("POST", "/invocations", chunks(), headers, encode_chunked=not announced)
    except (BrokenPipeError, ConnectionResetError):
        assert sent < all_of_it
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["message"].startswith(f"the body must have {MOST_BYTES} bytes at most")
    connection.close()
    assert predictions(server.url, server.format.of_pixels(images(1))).shape == (1, len(NAMES))


@pytest.mark.parametrize("server", OURS, indirect=True)
def test_an_answer_has_its_times_and_its_version(server: Server) -> None:
    answer = send(server, npy(server.format.of_pixels(images(1))))
    times = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.headers["Server-Timing"]))
    assert list(times) == ["decode", "members", "combine"]
    assert 0 < sum(map(float, times.values())) <= answer.elapsed.total_seconds() * 1e3
    assert answer.headers["Sensai-Model"] == "models:/mine/1"


@pytest.mark.parametrize("server", OURS, indirect=True)
def test_paths_and_methods(server: Server) -> None:
    for path, status in {
        **dict.fromkeys(["health", "ping", "health/live", "health/ready", "docs", "openapi.json", "metrics"], 200),
        "invocations": 405,
        "version": 404,
    }.items():
        answer = requests.get(f"{server.url}/{path}", timeout=SECONDS)
        assert answer.status_code == status, path
        if status >= 400:
            assert set(answer.json()) == {"error_code", "message"}


@pytest.mark.parametrize("server", OURS, indirect=True)
def test_prometheus_counts_requests_and_images(server: Server) -> None:
    def counted(name: str) -> float:
        text = requests.get(f"{server.url}/metrics", timeout=SECONDS).text
        return sum(float(value) for value in re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE))

    answered = 'sensai_requests_total{path="/invocations",status="200"}'
    refused = 'sensai_requests_total{path="/invocations",status="415"}'
    names = [answered, refused, "sensai_images_total", 'sensai_step_seconds_count{step="members"}']
    before = [counted(name) for name in names]
    send(server, npy(server.format.of_pixels(images(5))))
    send(server, b"", "text/plain")
    assert [counted(name) - earlier for name, earlier in zip(names, before, strict=True)] == [1, 1, 5, 1]
    assert counted('sensai_model{model="models:/mine/1"}') == counted("sensai_ready") == 1


@pytest.mark.parametrize("server", OURS, indirect=True)
def test_openapi_describes_what_is_taken(server: Server) -> None:
    schema = requests.get(f"{server.url}/openapi.json", timeout=SECONDS).json()
    taken = schema["paths"]["/invocations"]["post"]["requestBody"]["content"]
    assert set(taken) == {"application/json", "application/octet-stream", "image/jpeg", "image/png", "image/webp"}
    assert {"/health/live", "/health/ready", "/metrics"} <= set(schema["paths"])
