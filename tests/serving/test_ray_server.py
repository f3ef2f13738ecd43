"""serve: real replicas on a real Ray cluster of two nodes, with HTTP requests and killed replicas."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
import requests

from sensai.cluster.nodes import Node
from sensai.errors import InputError
from sensai.registry.registered import find
from sensai.serving.ray_server import Placement
from tests.conftest import Entry, command
from tests.helpers.asking import BAD_VALUES, ask, predictions, reason, with_value
from tests.helpers.ensembles import NAMES, ensemble_of, images, probabilities, register, swap_artifact
from tests.helpers.pipeline import Place
from tests.helpers.processes import still_running
from tests.helpers.ray_nodes import ray_nodes, raylet_of, title, workers
from tests.helpers.server import free_port, server

pytestmark = pytest.mark.processes


if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

ENSEMBLE = ensemble_of([(3, 0), (2,), (1,)])
_SECONDS = 120


@dataclass(frozen=True)
class Serving:
    """A server on the nodes of a cluster, and an earlier one whose port was taken."""

    url: str
    place: Place
    cluster: "Cluster"
    refused: subprocess.CompletedProcess[str]

    def replicas(self, deployment: str = "") -> dict[int, psutil.Process]:
        """Return the processes that hold members, or the ingress, by their ids."""
        return {each.pid: each for each in workers(self.cluster.list_all_nodes(), f"ServeReplica:sensai:{deployment}")}


@pytest.fixture(scope="module")
def place(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place.make(tmp_path_factory.mktemp("serving"), empty_database)
    register(made, "mine", ENSEMBLE)
    return made


@contextmanager
def started(place: Place, folder: Path, **parameters: object) -> Iterator[str]:
    environment = {"MLFLOW_TRACKING_URI": place.uri, "MLFLOW_EXPERIMENT_ID": place.experiment, "PYTHONPATH": ""}
    with server(command("serve", model_uri="models:/mine@champion", **parameters), folder, **environment) as url:
        # Replicas may answer before Ray Serve reports that they are ready.
        waited_for(lambda: f"answers at {url}" in (folder / "server.log").read_text())
        yield url


@pytest.fixture(scope="module")
def serving(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Yield two shards of two replicas, which must be on different nodes."""
    pytest.importorskip("ray.serve", reason="the extra `serve` is not installed", exc_type=ImportError)
    folder = tmp_path_factory.mktemp("server")
    placement = {"shards": 2, "replicas": 2, "replicas_per_node": 1}
    with ray_nodes(2, cpus=2) as cluster:
        refused = on_a_taken_port(place, folder, cluster.address)
        with started(place, folder, ray_address=cluster.address, **placement) as url:
            yield Serving(url, place, cluster, refused)
        # The cluster lives on, without the deployments.
        waited_for(lambda: not workers(cluster.list_all_nodes(), "Serve"))
    (run,) = [run for run in place.of("serve") if run.data.params["port"] == url.rpartition(":")[2]]
    assert run.info.status == "FINISHED", (folder / "server.log").read_text()


def on_a_taken_port(place: Place, folder: Path, ray_address: str) -> subprocess.CompletedProcess[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        parameters = {"ray_address": ray_address, "port": taken.getsockname()[1]}
        with place.active():
            return subprocess.run(
                command("serve", model_uri="models:/mine@champion", **parameters),
                cwd=folder,
                env=dict(os.environ),
                capture_output=True,
                text=True,
                check=False,
            )


def waited_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# This comes first, while no other cluster uses the cores on which this one starts.
@pytest.mark.long
def test_a_server_with_a_ray_of_its_own_keeps_to_loopback_and_leaves_nothing_at_ctrl_c(
    place: Place, tmp_path: Path
) -> None:
    pytest.importorskip("ray.serve", reason="the extra `serve` is not installed", exc_type=ImportError)
    before = place.runs()
    with started(place, tmp_path, shards=1) as url:
        for _ in range(3):
            predictions(url, images(2))
        (main,) = [each for each in psutil.Process().children() if f"--port {url.rpartition(':')[2]}" in title(each)]
        family = main.children(recursive=True)
        listening = {
            connection.laddr.ip
            for each in family
            for connection in each.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert any("ServeReplica:sensai:shard-0" in title(each) for each in family)
        assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}
        # Neither the ingress nor the shards import anything that trains.
        assert not [each for each in (main, *family) if any("libtorch" in part.path for part in each.memory_maps())]
        # A terminal sends this signal; the other servers are ended by SIGTERM.
        os.killpg(main.pid, signal.SIGINT)
        assert main.wait(_SECONDS) == 0, (tmp_path / "server.log").read_text()
        assert still_running(family, _SECONDS) == []
    (run,) = place.new_runs(before)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["requests"] == 3
    assert run.data.params["model_uri"] == "models:/mine@champion"


@pytest.mark.parametrize("key", ["inputs", "instances"])
def test_the_answers_are_those_of_the_ensemble_in_memory(serving: Serving, key: str) -> None:
    answers = predictions(serving.url, images(5), key)
    assert list(answers.columns) == list(NAMES)
    np.testing.assert_allclose(answers.to_numpy(), probabilities(ENSEMBLE, images(5)), atol=1e-5)


@pytest.mark.parametrize(("value", "said"), BAD_VALUES["uint8"])
def test_values_of_another_kind_are_refused_with_the_reason(serving: Serving, value: object, said: str) -> None:
    answer = ask(serving.url, {"inputs": with_value(images(2), value)})
    assert answer.status_code == 400
    assert re.search(f"^images {said}", reason(answer))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"inputs": images(2)[:, :-1].tolist()},
            r"^images must be uint8 of shape \(N, 9, 8, 1\), not int64 \(2, 8, 8, 1\)",
        ),
        ({"inputs": []}, r"of shape \(N, 9, 8, 1\), not float64 \(0,\)"),
        ({"inputs": [[1, 2], [3]]}, r"of shape \(N, 9, 8, 1\), not object \(2,\)"),
        ({"images": images(1).tolist()}, "one of the keys inputs and instances"),
        ({"inputs": [], "instances": []}, "one of the keys inputs and instances"),
        ([1], "must be a JSON object"),
        ("{", r"must be JSON \(Expecting property name"),
        ("[" * 100_000, "must be JSON"),
    ],
)
def test_what_are_no_images_is_refused_with_the_reason(serving: Serving, body: object, said: str) -> None:
    answer = ask(serving.url, body)
    assert answer.status_code == 400
    assert re.search(said, reason(answer))


@pytest.mark.parametrize("content_type", ["text/csv", "application/jsonl", "", "application/x-www-form-urlencoded"])
def test_what_is_not_said_to_be_json_is_refused(serving: Serving, content_type: str) -> None:
    answer = ask(serving.url, {"inputs": images(1).tolist()}, **{"Content-Type": content_type})
    assert answer.status_code == 415
    assert reason(answer) == f"the content type must be application/json, not {content_type!r}"


def test_json_may_name_its_characters(serving: Serving) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert ask(serving.url, {"inputs": images(1).tolist()}, **headers).status_code == 200


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks"])
def test_a_body_that_is_too_large_is_not_read(serving: Serving, announced: bool) -> None:
    """It comes as slowly as it is taken; of one in chunks nobody knows how much there is."""
    sent, chunk = 0, b"[" + b" " * 2**20

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        while sent < 2**30:
            sent += len(chunk)
            yield chunk

    ingress, *_ = serving.replicas("ingress").values()
    before = ingress.memory_info().rss
    host, port = serving.url.removeprefix("http://").split(":")
    connection = HTTPConnection(host, int(port), timeout=_SECONDS)
    headers = {"Content-Type": "application/json"} | ({"Content-Length": str(2**30)} if announced else {})
    # The server may answer and close the connection before the whole body is sent.
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.request("POST", "/invocations", chunks(), headers, encode_chunked=not announced)
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["message"].startswith("the body must have 16777216 bytes at most")
    connection.close()
    assert ingress.memory_info().rss - before < 2**29
    assert predictions(serving.url, images(1)).shape == (1, len(NAMES))


def test_health_is_told_where_mlflow_tells_it_and_nothing_else_is_there(serving: Serving) -> None:
    for path, status in {"health": 200, "ping": 200, "invocations": 404, "version": 404}.items():
        assert requests.get(f"{serving.url}/{path}", timeout=_SECONDS).status_code == status, path


def test_replicas_of_a_shard_are_on_different_nodes(serving: Serving) -> None:
    for node in serving.cluster.list_all_nodes():
        titles = [title(process) for process in raylet_of(node).children()]
        for shard in ("shard-0", "shard-1"):
            assert sum(f"ServeReplica:sensai:{shard}" in each for each in titles) == 1


def test_a_second_server_on_the_same_cluster_is_refused(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, entry: Entry
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", serving.place.uri)
    address = serving.cluster.address
    refused = entry("serve", model_uri="models:/mine/1", ray_address=address, port=free_port())
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith(f"error: serve: ray_address={address!r}: Ray Serve runs there")


def test_a_port_that_is_taken_is_named(serving: Serving) -> None:
    assert serving.refused.returncode == 2
    said = r"error: serve: host='127\.0\.0\.1', port=\d+: cannot be listened on \(.*bind.*"
    assert re.fullmatch(said, serving.refused.stderr.splitlines()[-1]), serving.refused.stderr


@pytest.mark.parametrize(
    ("deployment", "lost", "unanswered"),
    [
        ("shard-0", 1, set()),
        pytest.param("shard-0", 2, {503}, marks=pytest.mark.long),
        pytest.param("ingress", 1, {500, 503}, marks=pytest.mark.long),
    ],
    ids=["one of two", "all of a shard", "the ingress"],
)
def test_killed_replicas_are_replaced_and_no_request_is_answered_wrongly(
    serving: Serving, deployment: str, lost: int, unanswered: set[int]
) -> None:
    waited_for(lambda: len(serving.replicas()) == 5)
    before = serving.replicas()
    ended = threading.Event()
    with ThreadPoolExecutor(3) as clients:
        asking = [clients.submit(ask_until, ended, serving.url, seed) for seed in range(3)]
        try:
            for process in list(serving.replicas(deployment).values())[:lost]:
                process.kill()
            waited_for(lambda: len(serving.replicas().keys() - before.keys()) == lost and len(serving.replicas()) == 5)
            waited_for(lambda: requests.get(f"{serving.url}/health", timeout=_SECONDS).status_code == 200)
        finally:
            ended.set()
        statuses = [status for each in asking for status in each.result()]
    assert set(statuses) <= {200, *unanswered}
    assert 200 in statuses
    np.testing.assert_allclose(predictions(serving.url, images(3)), probabilities(ENSEMBLE, images(3)), atol=1e-5)


def ask_until(ended: threading.Event, url: str, seed: int) -> list[int]:
    """Return the statuses of all requests, and assert that predictions belong to the request's images."""
    statuses, count = [], seed
    # Without a pause the clients would use the cores on which the new replicas start.
    while not ended.wait(0.05):
        count = count % 7 + 1
        answer = ask(url, {"inputs": images(count).tolist()})
        statuses.append(answer.status_code)
        if answer.ok:
            given = [list(each.values()) for each in answer.json()["predictions"]]
            np.testing.assert_allclose(given, probabilities(ENSEMBLE, images(count)), atol=1e-5)
    return statuses


def test_without_the_package_its_extra_is_named(place: Place, monkeypatch: pytest.MonkeyPatch, launched: Entry) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with place.active():
        refused = launched("serve", model_uri="models:/mine@champion")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == "error: serve: needs the package ray[serve]: pip install 'ray[serve]'"


def test_every_replica_refuses_what_is_not_the_registered_ensemble(empty_database: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.serve", reason="the extra `serve` is not installed", exc_type=ImportError)
    from sensai.serving.shards import Source

    place = Place.make(tmp_path, empty_database)
    uri = register(place, "mine", ENSEMBLE)
    with place.active():
        source = Source(find(place.client, uri), place.uri, str(tmp_path), loopback=True)
        with source.bundle() as bundle:
            assert bundle.image_shape == (9, 8, 1)
        swap_artifact(tmp_path)
        said = r"manifest\.json is not the file that was registered"
        with pytest.raises(InputError, match=said), source.bundle():
            pass


def test_a_swapped_artifact_is_not_served(empty_database: Path, tmp_path: Path, launched: Entry) -> None:
    pytest.importorskip("ray.serve", reason="the extra `serve` is not installed", exc_type=ImportError)
    place = Place.make(tmp_path, empty_database)
    register(place, "mine", ENSEMBLE)
    swap_artifact(tmp_path)
    with place.active():
        refused = launched("serve", model_uri="models:/mine@champion")
    assert refused.returncode == 2
    said = (
        "error: serve: model_uri='models:/mine@champion': manifest.json is not the file that was registered: SHA-256 "
    )
    assert refused.stderr.splitlines()[-1].startswith(said)


@pytest.mark.parametrize("uri", ["models:/nothing/1", "models:/mine@nobody", "x"])
def test_a_model_that_is_not_there_is_named(place: Place, launched: Entry, uri: str) -> None:
    pytest.importorskip("ray.serve", reason="the extra `serve` is not installed", exc_type=ImportError)
    with place.active():
        refused = launched("serve", model_uri=uri)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith(f"error: serve: model_uri={uri!r}: ")


@pytest.mark.parametrize(
    ("resources", "said"),
    [("CPU=2", "machines announce themselves, not CPU"), ("=1", "name=amount"), ("near=0", "name=amount")],
)
def test_resources_are_named_amounts(launched: Entry, resources: str, said: str) -> None:
    refused = launched("serve", resources=resources)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: serve: resources='{resources}': must be ")
    assert said in refused.stderr


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        (Placement(), [[0], [1], [2]]),
        (Placement(shards=2), [[0], [1, 2]]),
        (Placement(replicas=2), [[0], [1, 2]]),
        (Placement(threads=2), [[0], [1, 2]]),
        (Placement(shards=9), [[0], [1], [2]]),
    ],
)
def test_members_are_dealt_by_what_they_cost(placement: Placement, expected: list[list[int]]) -> None:
    assert placement.dealt([3.0, 2.0, 1.0], [Node("", 2, 0), Node("", 3, 0)]) == expected


@pytest.mark.parametrize(
    ("placement", "said"),
    [
        (Placement(shards=3, replicas=2), r"shards=3, replicas=2, threads=1: .* has room for 5 replicas"),
        (Placement(threads=4), r"threads=4: .* has room for 0 replicas"),
        (
            Placement(shards=1, replicas=3, replicas_per_node=1),
            r"replicas=3: .* 2 machines .* room for 2 of each of 1 sh",
        ),
    ],
)
def test_a_cluster_without_room_is_refused(placement: Placement, said: str) -> None:
    with pytest.raises(InputError, match=said):
        placement.dealt([3.0, 2.0, 1.0], [Node("", 2, 0), Node("", 3, 0)])


def test_replicas_that_must_stand_apart_need_room_on_each_machine() -> None:
    apart, nodes = Placement(shards=2, replicas=2, replicas_per_node=1), [Node("", 3, 0), Node("", 1, 0)]
    with pytest.raises(InputError, match=r"replicas=2: .* room for 1 of each of 2 shards"):
        apart.dealt([2.0, 1.0], nodes)
    assert replace(apart, replicas_per_node=2).dealt([2.0, 1.0], nodes) == [[0], [1]]
    assert apart.dealt([2.0, 1.0], [Node("", 2, 0), Node("", 2, 0)]) == [[0], [1]]


def test_resources_that_the_cluster_lacks_are_refused() -> None:
    placement = Placement(resources={"near_camera": 0.5})
    placement.check_resources(2, {"near_camera": 1.0, "CPU": 4.0})
    with pytest.raises(InputError, match=r"resources=near_camera=0.5: the cluster has 1 of it, for 3 replicas"):
        placement.check_resources(3, {"near_camera": 1.0})
    with pytest.raises(InputError, match="the cluster has 0 of it"):
        placement.check_resources(1, {"CPU": 4.0})
