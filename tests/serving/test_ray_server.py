"""serve: real replicas on a real Ray cluster of two nodes, with HTTP requests and killed replicas."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
from tests.conftest import Entry
from tests.helpers.asking import ask, predictions
from tests.helpers.ensembles import images, probabilities
from tests.helpers.pipeline import Place
from tests.helpers.processes import still_running
from tests.helpers.ray_nodes import ray_nodes, raylet_of, title, workers
from tests.helpers.server import free_port
from tests.serving.conftest import ENSEMBLE, started, waited_for

# test_contract.py has the same on one machine.
pytestmark = [pytest.mark.processes, pytest.mark.long]


if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

_SECONDS = 120


@dataclass(frozen=True)
class Serving:
    """A server on the nodes of a cluster."""

    url: str
    place: Place
    cluster: "Cluster"

    def replicas(self, deployment: str = "") -> dict[int, psutil.Process]:
        """Return the processes that hold members, or the ingress, by their ids."""
        return {each.pid: each for each in workers(self.cluster.list_all_nodes(), f"ServeReplica:sensai:{deployment}")}


@pytest.fixture(scope="module")
def serving(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Yield two shards of two replicas, which must be on different nodes."""
    pytest.importorskip("ray.serve", reason="the extra `serve` is not installed", exc_type=ImportError)
    folder = tmp_path_factory.mktemp("server")
    placement = {"shards": 2, "replicas": 2, "replicas_per_node": 1}
    with ray_nodes(2, cpus=2) as cluster:
        with started(place, folder, ray_address=cluster.address, **placement) as url:
            yield Serving(url, place, cluster)
        # The cluster lives on, without the deployments.
        waited_for(lambda: not workers(cluster.list_all_nodes(), "Serve"))
    (run,) = [run for run in place.of("serve") if run.data.params["port"] == url.rpartition(":")[2]]
    assert run.info.status == "FINISHED", (folder / "server.log").read_text()
    assert run.data.metrics["requests"] > 0


# This comes first, while no other cluster uses the cores on which this one starts.
@pytest.mark.long
def test_a_server_with_a_ray_of_its_own_keeps_others_out_and_leaves_nothing_at_ctrl_c(
    place: Place, tmp_path: Path
) -> None:
    pytest.importorskip("ray.serve", reason="the extra `serve` is not installed", exc_type=ImportError)
    before = place.runs()
    with started(place, tmp_path, backend="ray", shards=1) as url:
        for _ in range(3):
            predictions(url, images(2))
        (main,) = [each for each in psutil.Process().children() if f"--port {url.rpartition(':')[2]}" in title(each)]
        family = main.children(recursive=True)
        listening = {
            (connection.laddr.ip, connection.laddr.port): each
            for each in family
            for connection in each.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert any("ServeReplica:sensai:shard-0" in title(each) for each in family)
        # Ray Serve opens a port in each replica on all addresses. It asks for the token of this Ray.
        beyond = [port for (ip, port) in listening if ip not in ("127.0.0.1", "::ffff:127.0.0.1")]
        assert all("ServeReplica" in title(each) for (_, port), each in listening.items() if port in beyond)
        assert beyond
        for port in beyond:
            assert refusal_of(port) == "UNAUTHENTICATED"
        # A terminal sends this signal; the other servers are ended by SIGTERM.
        os.killpg(main.pid, signal.SIGINT)
        assert main.wait(_SECONDS) == 0, (tmp_path / "server.log").read_text()
        assert still_running(family, _SECONDS) == []
    (run,) = place.new_runs(before)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["requests"] == 3
    assert run.data.params["model_uri"] == "models:/mine@champion"


def refusal_of(port: int) -> str:
    """Call a method of a replica without a token; return the status."""
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"", timeout=30)
    return refused.value.code().name


def test_the_answers_are_those_of_the_ensemble_in_memory(serving: Serving) -> None:
    np.testing.assert_allclose(predictions(serving.url, images(5)), probabilities(ENSEMBLE, images(5)), atol=1e-5)


def test_replicas_of_a_shard_are_on_different_nodes(serving: Serving) -> None:
    for node in serving.cluster.list_all_nodes():
        titles = [title(process) for process in raylet_of(node).children()]
        for shard in ("shard-0", "shard-1"):
            assert sum(f"ServeReplica:sensai:{shard}" in each for each in titles) == 1


@pytest.mark.long
def test_a_second_server_on_the_same_cluster_is_refused(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, entry: Entry
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", serving.place.uri)
    address = serving.cluster.address
    refused = entry("serve", model_uri="models:/mine/1", ray_address=address, port=free_port())
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith(f"error: serve: ray_address={address!r}: Ray Serve runs there")


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
        refused = launched("serve", model_uri="models:/mine@champion", backend="ray")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == "error: serve: needs the package ray[serve]: pip install 'ray[serve]'"


def test_every_replica_refuses_what_is_not_the_registered_ensemble(place: Place, tmp_path: Path) -> None:
    pytest.importorskip("ray.serve", reason="the extra `serve` is not installed", exc_type=ImportError)
    from sensai.serving.shards import Source

    with place.active():
        model = find(place.client, "models:/mine@champion")
        with Source(model, place.uri, str(tmp_path)).bundle() as bundle:
            assert bundle.image_shape == (9, 8, 1)
        source = Source(replace(model, digest="0" * 64), place.uri, str(tmp_path))
        with pytest.raises(InputError, match=r"manifest\.json is not the file that was registered"), source.bundle():
            pass


@pytest.mark.parametrize(
    ("resources", "said"),
    [("CPU=2", "machines announce themselves, not CPU"), ("=1", "name=amount"), ("near=0", "name=amount")],
)
def test_resources_are_named_amounts(launched: Entry, resources: str, said: str) -> None:
    refused = launched("serve", backend="ray", resources=resources)
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
