"""An ensemble deployed with Ray Serve for as long as a block runs."""

import importlib.util
import logging
import os
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
from sensai.registry.registered import Registered, find
from sensai.serving.listening import Address, HttpOptions
from sensai.serving.open_version import milliseconds_of

NAME = "sensai"
_LACKING = "needs the package ray[serve]: pip install 'ray[serve]'"
_SECONDS_TO_COUNT = 10.0


@dataclass(frozen=True)
class Placement:
    """The distribution of members over a cluster: those that take longest first, each to the shard with least to do.

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
        """Return the numbers of the members of each shard, given the milliseconds of each member.

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
    """An ensemble that serves requests on a cluster.

    Attributes:
        answered: number of requests with predictions, of those that this ingress has received, when `count` was called.
    """

    def __init__(self, ingress: Any) -> None:
        self._ingress = ingress
        self.answered = 0

    def count(self) -> None:
        """Ask the ingress for the number of requests."""
        self.answered = self._ingress.answered.remote().result(timeout_s=_SECONDS_TO_COUNT)


@contextmanager
def served_on_ray(
    model_uri: str, placement: Placement, address: Address, options: HttpOptions, ray_address: str
) -> Iterator[Served]:
    """Serve a registered ensemble over HTTP while the block runs.

    Args:
        model_uri: of a version, or an alias that is resolved once.
        placement: of its members.
        address: where the head of the cluster listens.
        options: of the HTTP interface.
        ray_address: as `ray_cluster` takes it.

    Raises:
        InputError: Ray Serve is not installed; there is no such model, or its files are not those that were registered;
            there is no such cluster, it has no room, it serves already, or a replica cannot be started.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError(_LACKING)
    model = find(MlflowClient(), model_uri)
    costs = _milliseconds(model, placement.threads)
    if not ray_address:
        with address.listener():
            pass
        # By default Ray's processes give way to all others on the machine, which is wrong for a server.
        os.environ.setdefault("RAY_worker_niceness", "0")
    with ray_cluster(ray_address) as cluster:
        try:
            import ray
            from ray import serve
        except ImportError as error:
            raise InputError(_LACKING) from error
        from sensai.serving.shards import Source

        source = Source(model, mlflow.get_tracking_uri(), str(Path.cwd()))
        dealt = placement.dealt(costs, cluster.nodes)
        placement.check_resources(len(dealt) * placement.replicas, ray.cluster_resources())
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        if serve.status().proxies:
            raise InputError(f"ray_address={ray_address!r}: Ray Serve runs there already; `serve shutdown` ends it")
        try:
            _start(address)
            application = _application(source, placement, dealt, options)
            server = Served(_deployed(application, model_uri))
            yield server
            server.count()
        finally:
            serve.shutdown()


def _milliseconds(model: Registered, threads: int) -> list[float]:
    """Return the time of each member on this machine, one after another."""
    with model.bundle() as bundle:
        numbers = range(len(bundle.manifest["members"]))
        return [milliseconds_of([bundle.open_member(number, threads)], bundle)[0] for number in numbers]


def _start(address: Address) -> None:
    """Start the proxy, which listens on the head of the cluster, perhaps another machine."""
    from ray import serve

    quiet = {"log_level": "WARNING", "enable_access_log": False}
    try:
        serve.start("HeadOnly", {"host": address.host, "port": address.port}, logging_config=quiet)
    except RuntimeError as error:
        *_, why = str(error).strip().splitlines()
        raise address.refused(why.strip()) from error


def _deployed(application: Any, model_uri: str) -> Any:
    """Return the ingress when all replicas are ready."""
    from ray import serve

    try:
        return serve.run(application, name=NAME)
    except RuntimeError as error:
        # For example, a replica may be on a machine that cannot reach the store.
        raise InputError(f"model_uri={model_uri!r}: cannot be deployed: {' '.join(str(error).split())}") from error


def _application(source: Any, placement: Placement, dealt: list[list[int]], options: HttpOptions) -> Any:
    from ray import serve

    from sensai.serving.shards import Ingress, Shard

    of_shards = {
        "num_replicas": placement.replicas,
        "max_replicas_per_node": placement.replicas_per_node,
        "ray_actor_options": {"num_cpus": placement.threads, "resources": dict(placement.resources or {})},
    }
    shards = [
        serve.deployment(Shard, name=f"shard-{number}").options(**of_shards).bind(source, numbers, placement.threads)
        for number, numbers in enumerate(dealt)
    ]
    # The ingress mostly waits for the shards, so it takes no CPU.
    ingress = serve.deployment(Ingress, name="ingress", ray_actor_options={"num_cpus": 0}, max_ongoing_requests=100)
    return ingress.bind(source, shards, options)
