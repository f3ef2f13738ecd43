"""What runs on the machines of a cluster: shards of members, and the ingress that asks them all and combines what they say.

A replica loads the version that was pinned when serving began, whatever its alias names by now.
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
    """Where every replica finds the bundle.

    Attributes:
        model: the version, and the digest that the store had of its manifest when serving began.
        store: tracking URI.
        folder: that relative paths in it start from.
        loopback: the cluster is this machine alone, and must not be reached from others.
    """

    model: Registered
    store: str
    folder: str
    loopback: bool

    @contextmanager
    def bundle(self) -> Iterator[Bundle]:
        """Yield the bundle, whose files are there while the block runs; what has been opened stays open.

        Raises:
            InputError: it is no ensemble, or its files are not those that were registered.
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
        """The outputs of each member by its number, float32 (N, 1), (N, 1 + g) or (N, K)."""
        return {number: run(images) for number, run in self._runs.items()}

    def ready(self) -> bool:
        """It is there."""
        return True


class Ingress:
    """Answers requests: asks all shards at once and combines what they say.

    A shard whose replica is lost meanwhile is asked again, which is safe since no answer depends on those before it. Where none
    answers in time, status 503 says so.
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
        """Answer a request; what is wrong with it as MLflow's server does, with a code and the reason."""
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
        """How many requests have got predictions."""
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
    """Keep the port that Ray Serve opens for other replicas on loopback, where it would listen on all addresses (2.60).

    Whoever reaches it has a pickle of his loaded, whatever token Ray asks for elsewhere. Serve opens it after a replica has
    been made, and by default sends nothing over it.
    """
    if source.loopback:
        opened = replica.add_port_to_grpc_server
        replica.add_port_to_grpc_server = lambda server, address: opened(server, address.replace("[::]", "127.0.0.1"))


async def _awaited(response: Any) -> Any:
    return await response
