"""The parts that run on the machines of a cluster: shards of members, and the ingress that combines their outputs.

A replica loads the version that was resolved when serving began, even if its alias has moved.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from sensai.registry.pyfunc_model import Bundle
from sensai.registry.registered import Registered
from sensai.serving.access_log import AccessLog, open_access_log
from sensai.serving.listening import HttpOptions
from sensai.serving.open_version import Answer, OpenVersion, Stopwatch, in_parts
from sensai.serving.protocol import WARM_UP, Content, render_answer

_SECONDS_TO_BE_READY = 5.0
_SECONDS_BETWEEN_TRIES = 0.1


@dataclass(frozen=True)
class Source:
    """The place where every replica finds the bundle.

    Attributes:
        model: the version, and the digest of its manifest in the store when serving began.
        store: tracking URI.
        folder: relative paths in the URI start from it.
    """

    model: Registered
    store: str
    folder: str

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
        with source.bundle() as bundle:
            self._runs = {number: bundle.open_member(number, threads) for number in numbers}

    def outputs(self, images: np.ndarray) -> dict[int, np.ndarray]:
        """Return the outputs of each member by its number, float32 (N, 1), (N, 1 + g) or (N, K)."""
        return {number: in_parts(run, images) for number, run in self._runs.items()}

    def ready(self) -> bool:
        """Return True when the shard is open."""
        return True


class ClusterVersion(OpenVersion):
    """A version whose members are in the replicas of shards: all are asked at once.

    If the replica of a shard is lost, the shard is asked again; that is safe since outputs do not depend on earlier
    requests.
    """

    def __init__(self, source: Source, shards: Sequence[Any]) -> None:
        """Read the manifest; `shards` are handles of deployments of `Shard`."""
        with source.bundle() as bundle:
            super().__init__(source.model.uri, bundle)
        self._shards = shards
        WARM_UP.images(bundle)

    async def answer(self, content: Content) -> Answer:
        """Return the answer to a request.

        Raises:
            MlflowException: the content is refused, or a shard does not answer.
        """
        stopwatch = Stopwatch()
        images = await asyncio.to_thread(content.images, self.bundle)
        stopwatch.lap("decode")
        outputs: dict[int, np.ndarray] = {}
        for each in await self._of_all([self._outputs(shard, images) for shard in self._shards]):
            outputs |= each
        stopwatch.lap("members")
        text = await asyncio.to_thread(self._render, outputs)
        stopwatch.lap("combine")
        return Answer(text, len(images), stopwatch)

    async def check(self) -> None:
        """Raise an error if a shard has no replica that answers within five seconds.

        Raises:
            MlflowException: status 503.
        """
        try:
            asked = [_awaited(shard.ready.remote()) for shard in self._shards]
            await asyncio.wait_for(self._of_all(asked), _SECONDS_TO_BE_READY)
        except TimeoutError as error:
            raise self._silent(error) from error

    def _render(self, outputs: dict[int, np.ndarray]) -> str:
        return render_answer(self.bundle.answer([outputs[number] for number in range(len(outputs))]))

    async def _outputs(self, shard: Any, images: np.ndarray) -> dict[int, np.ndarray]:
        while True:
            try:
                outputs: dict[int, np.ndarray] = await shard.outputs.remote(images)
                return outputs
            except RayTaskError:
                raise
            except RayError:
                await asyncio.sleep(_SECONDS_BETWEEN_TRIES)

    async def _of_all(self, asked: list[Any]) -> list[Any]:
        try:
            return await asyncio.gather(*asked)
        except (RayServeException, RayActorError) as error:
            raise self._silent(error) from error

    def _silent(self, error: Exception) -> MlflowException:
        reason = f"not all of the {len(self._shards)} shards of members answer ({type(error).__name__})"
        return MlflowException(reason, error_code=TEMPORARILY_UNAVAILABLE)


class Ingress:
    """Answers requests by the application that a server of one process runs too."""

    def __init__(self, source: Source, shards: Sequence[Any], options: HttpOptions) -> None:
        """Read the manifest; `shards` are handles of deployments of `Shard`."""
        version = ClusterVersion(source, shards)
        self._http, self._app = options.application(lambda: version, _access_log(options.access_log))

    async def __call__(self, request: Request) -> Response:
        """Answer a request."""
        start: Message = {}
        parts: list[bytes] = []

        async def send(message: Message) -> None:
            start.update(message if message["type"] == "http.response.start" else {})
            parts.append(message.get("body", b""))

        await self._app(request.scope, request.receive, send)
        response = Response(b"".join(parts), start["status"])
        response.raw_headers = list(start["headers"])
        return response

    def answered(self) -> int:
        """Return the number of requests with predictions."""
        return self._http.answered


def _access_log(path: str) -> AccessLog:
    """Return the log of a replica, which is open until the replica ends."""
    return ExitStack().enter_context(open_access_log(path))


async def _awaited(response: Any) -> Any:
    return await response
