"""Servers of a registered ensemble: in this process, in a process of their own, and on a Ray cluster."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from sensai.registry.image_format import ImageFormat
from sensai.serving.http_application import Limits
from sensai.serving.listening import Address, HttpOptions
from sensai.serving.local_server import LocalServer, served_locally
from tests.conftest import command
from tests.helpers.ensembles import ensemble_of, register
from tests.helpers.pipeline import Place
from tests.helpers.server import free_port, server

ENSEMBLE = ensemble_of([(3, 0), (2,), (1,)])
URI = "models:/mine@champion"
OPTIONS = HttpOptions(Limits(body=2**20, seconds=30))
SECONDS = 120


FORMATS = {"uint8": ImageFormat(), "float32": ImageFormat("float32", "NCHW")}


@pytest.fixture(scope="session")
def places(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Place]:
    """Return a function from the dtype of images to a store with the ensemble as champion: exporting it takes seconds."""

    @cache
    def place(dtype: str) -> Place:
        made = Place.make(tmp_path_factory.mktemp("serving"), empty_database)
        register(made, "mine", ENSEMBLE, image_format=FORMATS[dtype])
        return made

    return place


@pytest.fixture(scope="session")
def place(places: Callable[[str], Place]) -> Place:
    """Return a store to be read from only."""
    return places("uint8")


@contextmanager
def local_server(
    place: Place, uri: str = URI, options: HttpOptions = OPTIONS, *, follow_alias: bool = False
) -> Iterator[tuple[str, LocalServer]]:
    """Yield URL and state of a server in this process."""
    port = free_port()
    with place.active(), served_locally(uri, Address("127.0.0.1", port), options, follow_alias=follow_alias) as running:
        yield f"http://127.0.0.1:{port}", running


@contextmanager
def started(place: Place, folder: Path, **parameters: object) -> Iterator[str]:
    """Yield the URL of a server in a process of its own, which logs into `folder`/server.log."""
    environment = {"MLFLOW_TRACKING_URI": place.uri, "MLFLOW_EXPERIMENT_ID": place.experiment, "PYTHONPATH": ""}
    with server(command("serve", model_uri=URI, **parameters), folder, **environment) as url:
        # Replicas may answer before Ray Serve reports that they are ready.
        waited_for(lambda: f"answers at {url}" in (folder / "server.log").read_text())
        yield url


def waited_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
