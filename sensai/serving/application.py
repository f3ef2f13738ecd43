"""An ensemble deployed with Ray Serve for as long as a block runs."""

import importlib.util
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.tracking import MlflowClient

from sensai.cluster.cores import deal
from sensai.cluster.nodes import Node, room
from sensai.cluster.ray_cluster import ray_cluster
from sensai.errors import InputError
from sensai.registry.registered import find

NAME = "sensai"
_LACKING = "needs the package ray[serve]: pip install 'ray[serve]'"
_SECONDS_TO_COUNT = 10.0


@dataclass(frozen=True)
class Placement:
    """The distribution of members over a cluster.

    Attributes:
        shards: number of deployments; None: one for each free CPU, at most one a member.
        replicas: of each shard.
        replicas_per_node: most replicas of a shard on one machine; None: any number.
        threads: CPUs of each replica.
        resources: custom resources of the cluster that each replica takes, by name.
    """

    shards: int | None = None
    replicas: int = 1
    replicas_per_node: int | None = None
    threads: int = 1
    resources: Mapping[str, float] | None = None

    def dealt(self, costs: list[float], nodes: list[Node]) -> list[list[int]]:
        """Return the numbers of the members of each shard.

        Raises:
            InputError: the cluster has no room for so many replicas.
        """
        available = room(nodes, self.threads, gpu=False)
        dealt = deal(costs, self.shards or max(available // self.replicas, 1))
        if len(dealt) * self.replicas > available:
            raise InputError(
                f"shards={len(dealt)}, replicas={self.replicas}, threads={self.threads}: must fit into the cluster, which "
                f"has room for {available} replicas"
            )
        if self.replicas_per_node and self.replicas > (apart := self._replicas_apart(len(dealt), nodes)):
            raise InputError(
                f"replicas={self.replicas}: with replicas_per_node={self.replicas_per_node} and threads={self.threads} the "
                f"{len(nodes)} machines of the cluster have room for {apart} of each of {len(dealt)} shards"
            )
        return dealt

    def _replicas_apart(self, shards: int, nodes: list[Node]) -> int:
        """Return the number of replicas of every shard that fit.

        A machine takes at most `replicas_per_node` of one shard.
        """
        most = shards * (self.replicas_per_node or self.replicas)
        return sum(min(node.cpus // self.threads, most) for node in nodes) // shards

    def check_resources(self, replicas: int, there: Mapping[str, float]) -> None:
        """Raise an error if the cluster lacks custom resources, since Ray would wait for machines that have them.

        Args:
            replicas: of all shards.
            there: the resources of all machines by name.

        Raises:
            InputError: a resource is missing.
        """
        for name, amount in (self.resources or {}).items():
            if there.get(name, 0) < amount * replicas:
                raise InputError(
                    f"resources={name}={amount:g}: the cluster has {there.get(name, 0):g} of it, for {replicas} replicas"
                )


class Served:
    """An ensemble that serves requests."""

    def __init__(self, ingress: Any, shards: int) -> None:
        self._ingress = ingress
        self.shards = shards

    def answered(self) -> int:
        """Return the number of requests with predictions, of those that this ingress has received."""
        count: int = self._ingress.answered.remote().result(timeout_s=_SECONDS_TO_COUNT)
        return count


@contextmanager
def served(model_uri: str, placement: Placement, host: str, port: int, ray_address: str) -> Iterator[Served]:
    """Serve a registered ensemble over HTTP while the block runs.

    Args:
        model_uri: of a version, or an alias that is resolved once.
        placement: of its members.
        host: address on which the head of the cluster listens.
        port: likewise.
        ray_address: as `ray_cluster` takes it.

    Raises:
        InputError: Ray Serve is not installed; there is no such model, or its files are not those that were registered;
            there is no such cluster, it has no room, it serves already, or a replica cannot be started.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError(_LACKING)
    model = find(MlflowClient(), model_uri)
    with model.bundle() as bundle:
        costs = [member["flops"] for member in bundle.manifest["members"]]
    if not ray_address:
        _check_free(host, port)
        # By default Ray's processes give way to all others on the machine, which is wrong for a server.
        os.environ.setdefault("RAY_worker_niceness", "0")
    with ray_cluster(ray_address) as cluster:
        try:
            import ray
            from ray import serve
        except ImportError as error:
            raise InputError(_LACKING) from error
        from sensai.serving.shards import Source

        source = Source(model, mlflow.get_tracking_uri(), str(Path.cwd()), cluster.loopback)
        dealt = placement.dealt(costs, cluster.nodes)
        placement.check_resources(len(dealt) * placement.replicas, ray.cluster_resources())
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        if serve.status().proxies:
            raise InputError(f"ray_address={ray_address!r}: Ray Serve runs there already; `serve shutdown` ends it")
        try:
            _start(host, port)
            yield Served(_deployed(_application(source, placement, dealt), model_uri), len(dealt))
        finally:
            serve.shutdown()


def _start(host: str, port: int) -> None:
    """Start the proxy, which listens on the head of the cluster, perhaps another machine."""
    from ray import serve

    quiet = {"log_level": "WARNING", "enable_access_log": False}
    try:
        serve.start("HeadOnly", {"host": host, "port": port}, logging_config=quiet)
    except RuntimeError as error:
        *_, why = str(error).strip().splitlines()
        raise InputError(f"host={host!r}, port={port}: cannot be listened on ({why.strip()})") from error


def _deployed(application: Any, model_uri: str) -> Any:
    """Return the ingress when all replicas are ready."""
    from ray import serve

    try:
        return serve.run(application, name=NAME)
    except RuntimeError as error:
        # For example, a replica may be on a machine that cannot reach the store.
        raise InputError(f"model_uri={model_uri!r}: cannot be deployed: {' '.join(str(error).split())}") from error


def _application(source: Any, placement: Placement, dealt: list[list[int]]) -> Any:
    from ray import serve

    from sensai.serving.shards import Ingress, Shard

    options = {
        "num_replicas": placement.replicas,
        "max_replicas_per_node": placement.replicas_per_node,
        "ray_actor_options": {"num_cpus": placement.threads, "resources": dict(placement.resources or {})},
    }
    shards = [
        serve.deployment(Shard, name=f"shard-{number}").options(**options).bind(source, numbers, placement.threads)
        for number, numbers in enumerate(dealt)
    ]
    # The ingress mostly waits for the shards, so it takes no CPU.
    ingress = serve.deployment(Ingress, name="ingress", ray_actor_options={"num_cpus": 0}, max_ongoing_requests=100)
    return ingress.bind(source, shards)


def _check_free(host: str, port: int) -> None:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise InputError(f"host={host!r}, port={port}: cannot be listened on ({error})") from error
