"""The parts that run on the machines of a cluster: shards of members, and the ingress that combines their outputs.

A replica loads the version that was resolved when serving began, even if its alias has moved.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import NOT_FOUND, TEMPORARILY_UNAVAILABLE
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve._private import replica
from ray.serve.exceptions import RayServeException
from starlette.requests import Request
from starlette.responses import Response

from sensai.registry.pyfunc_model import Bundle
from sensai.registry.registered import Registered
from sensai.serving.protocol import (
    JSON,
    RefusedRequestError,
    check_content_type,
    most_bytes,
    parse_images,
    read_body,
    render_answer,
)

_SECONDS_TO_ANSWER = 30.0
_SECONDS_TO_BE_READY = 5.0
_SECONDS_BETWEEN_TRIES = 0.1


@dataclass(frozen=True)
class Source:
    """The place where every replica finds the bundle.

    Attributes:
        model: the version, and the digest of its manifest in the store when serving began.
        store: tracking URI.
        folder: relative paths in the URI start from it.
        loopback: the cluster is only this machine, and must not be reached from others.
    """

    model: Registered
    store: str
    folder: str
    loopback: bool

    @contextmanager
    def bundle(self) -> Iterator[Bundle]:
        """Yield the bundle; its files exist while the block runs, and opened members stay open.

        Raises:
            InputError: it is not an ensemble, or its files are not those that were registered.
        """
        with suppress(FileNotFoundError):
            os.chdir(self.folder)
        mlflow.set_tracking_uri(self.store)
        with self.model.bundle() as bundle:
            yield bundle


class Shard:
    """Some of the members, one after another on the same images."""

    def __init__(self, source: Source, numbers: Sequence[int], threads: int) -> None:
        """Open the members with these numbers."""
        _close_to_others(source)
        with source.bundle() as bundle:
            self._runs = {number: bundle.open_member(number, threads) for number in numbers}

    def outputs(self, images: np.ndarray) -> dict[int, np.ndarray]:
        """Return the outputs of each member by its number, float32 (N, 1), (N, 1 + g) or (N, K)."""
        return {number: run(images) for number, run in self._runs.items()}

    def ready(self) -> bool:
        """Return True when the shard is open."""
        return True


class Ingress:
    """Answers requests: asks all shards at once and combines their outputs.

    If the replica of a shard is lost, the shard is asked again; that is safe since outputs do not depend on earlier
    requests. If a shard does not answer in time, the response has status 503.
    """

    def __init__(self, source: Source, shards: Sequence[Any]) -> None:
        """Read the manifest; `shards` are handles of deployments of `Shard`."""
        _close_to_others(source)
        with source.bundle() as bundle:
            self._bundle = bundle
        self._shards = shards
        self._answered = 0
        self._routes = {
            ("POST", "/invocations"): self._invocations,
            ("GET", "/health"): self._health,
            ("GET", "/ping"): self._health,
        }

    async def __call__(self, request: Request) -> Response:
        """Answer a request; errors have the form of MLflow's server, with a code and the reason."""
        try:
            route = self._routes.get((request.method, request.url.path))
            if route is None:
                allowed = ", ".join(" ".join(each) for each in self._routes)
                raise MlflowException(f"there are {allowed}", error_code=NOT_FOUND)
            return Response(await route(request), media_type=JSON)
        except RefusedRequestError as error:
            return Response(error.body(), error.status, media_type=JSON)
        except MlflowException as error:
            return Response(error.serialize_as_json(), error.get_http_status_code(), media_type=JSON)

    def answered(self) -> int:
        """Return the number of requests with predictions."""
        return self._answered

    async def _invocations(self, request: Request) -> str:
        check_content_type(request.headers.get("content-type", ""))
        announced = request.headers.get("content-length", "")
        body = await read_body(request.stream(), announced, most_bytes(self._bundle.image_shape))
        images = self._bundle.checked(parse_images(body))
        outputs: dict[int, np.ndarray] = {}
        for each in await self._of_all([self._outputs(shard, images) for shard in self._shards], _SECONDS_TO_ANSWER):
            outputs |= each
        self._answered += 1
        return render_answer(self._bundle.answer([outputs[number] for number in range(len(outputs))]))

    async def _health(self, _: Request) -> str:
        await self._of_all([_awaited(shard.ready.remote()) for shard in self._shards], _SECONDS_TO_BE_READY)
        return "\n"

    async def _outputs(self, shard: Any, images: np.ndarray) -> dict[int, np.ndarray]:
        while True:
            try:
                outputs: dict[int, np.ndarray] = await shard.outputs.remote(images)
                return outputs
            except RayTaskError:
                raise
            except RayError:
                await asyncio.sleep(_SECONDS_BETWEEN_TRIES)

    async def _of_all(self, asked: list[Any], seconds: float) -> list[Any]:
        try:
            return await asyncio.wait_for(asyncio.gather(*asked), seconds)
        except (TimeoutError, RayServeException, RayActorError) as error:
            reason = f"not all of the {len(self._shards)} shards of members answer ({type(error).__name__})"
            raise MlflowException(reason, error_code=TEMPORARILY_UNAVAILABLE) from error


def _close_to_others(source: Source) -> None:
    """Bind the port that Ray Serve opens for other replicas to loopback; by default it listens on all addresses (2.60).

    Ray unpickles what arrives at this port, whatever token it asks for elsewhere. Serve opens it after a replica has been
    made, and by default sends nothing over it.
    """
    if source.loopback:
        opened = replica.add_port_to_grpc_server
        replica.add_port_to_grpc_server = lambda server, address: opened(server, address.replace("[::]", "127.0.0.1"))


async def _awaited(response: Any) -> Any:
    return await response
