"""The HTTP interface of a server, the same in one process and on a cluster.

Errors have the form of MLflow's scoring server: a JSON object with `error_code` and `message`.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import FastAPI
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE, ErrorCode
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from sensai import __version__
from sensai.serving.api_page import ANSWERS, BODY, render_page
from sensai.serving.open_version import OpenVersion
from sensai.serving.protocol import JSON, Content, RefusedRequestError, media_type, most_bytes, read_body
from sensai.serving.server_metrics import ServerMetrics

_BUSY = ErrorCode.Name(TEMPORARILY_UNAVAILABLE)
# Returns the version that answers now; None: it is still loading.
Current = Callable[[], OpenVersion | None]


@dataclass(frozen=True)
class Limits:
    """The limits of a request.

    Attributes:
        body: bytes of the largest body.
        seconds: that a body may take to arrive, and again its answer to be computed.
    """

    body: int
    seconds: float


class HttpApplication:
    """The routes of a server.

    Attributes:
        app: the ASGI application.
        answered: number of requests with predictions.
    """

    def __init__(self, current: Current, limits: Limits, metrics: ServerMetrics) -> None:
        self._current = current
        self._limits = limits
        self._metrics = metrics
        self.answered = 0
        self.app = FastAPI(title="sensAI", version=__version__, docs_url=None, redoc_url=None)
        self._add_routes()
        self.app.add_exception_handler(MlflowException, _of_mlflow)
        self.app.add_exception_handler(RefusedRequestError, _of_refusal)
        self.app.add_exception_handler(HTTPException, _of_http)
        self.app.add_exception_handler(Exception, _of_defect)

    def _add_routes(self) -> None:
        add = self.app.add_api_route
        add(
            "/invocations",
            self._invocations,
            methods=["POST"],
            summary="Class probabilities of images",
            openapi_extra=BODY,
            responses=ANSWERS,
        )
        add("/health/live", self._live, methods=["GET"], summary="200 while the process runs")
        add(
            "/health/ready",
            self._ready,
            methods=["GET"],
            summary="200 when requests are answered, 503 while members load",
        )
        for path in ("/health", "/ping"):
            add(path, self._ready, methods=["GET"], summary="The same as /health/ready, where MLflow's server has it")
        add("/metrics", self._measured, methods=["GET"], summary="Metrics in the text format of Prometheus")
        add("/docs", self._page, methods=["GET"], include_in_schema=False)

    async def _invocations(self, request: Request) -> Response:
        version = self._version()
        kind = media_type(request.headers.get("content-type", ""))
        most = most_bytes(kind, self._limits.body, version.bundle.image_shape)
        content = Content(kind, await self._body(request, most))
        try:
            answer = await asyncio.wait_for(version.answer(content), self._limits.seconds)
        except TimeoutError as error:
            raise RefusedRequestError(503, f"no answer within {self._limits.seconds:g} s", _BUSY) from error
        self.answered += 1
        self._metrics.count(answer)
        request.state.facts = {"model": version.name, "images": answer.images, **answer.stopwatch.milliseconds}
        headers = {"Server-Timing": answer.stopwatch.header(), "Sensai-Model": quote(version.name, safe=":/@ ")}
        return Response(answer.text, headers=headers, media_type=JSON)

    async def _body(self, request: Request, most: int) -> bytearray:
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await read_body(request.stream(), request.headers.get("content-length", ""), most)
        except TimeoutError as error:
            raise RefusedRequestError(408, f"the body did not arrive within {self._limits.seconds:g} s") from error

    async def _live(self) -> Response:
        return Response("\n", media_type=JSON)

    async def _ready(self) -> Response:
        await self._version().check()
        return Response("\n", media_type=JSON)

    async def _measured(self) -> Response:
        content = self._metrics.render(self._current())
        if content is None:
            raise RefusedRequestError(501, "needs the package prometheus-client: pip install prometheus-client")
        return Response(*content)

    async def _page(self) -> Response:
        return HTMLResponse(render_page(self.app.openapi()))

    def _version(self) -> OpenVersion:
        if (version := self._current()) is None:
            raise RefusedRequestError(503, "the members are loading", _BUSY)
        return version


async def _of_mlflow(_: Request, error: Exception) -> Response:
    assert isinstance(error, MlflowException)
    return Response(error.serialize_as_json(), error.get_http_status_code(), media_type=JSON)


async def _of_refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedRequestError)
    return Response(error.body(), error.status, media_type=JSON)


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "NOT_FOUND" if error.status_code == 404 else "INVALID_PARAMETER_VALUE"
    message = f"{request.method} {request.url.path[:200]}: {error.detail}; /docs lists what there is"
    content = json.dumps({"error_code": code, "message": message})
    return Response(content, error.status_code, headers=error.headers, media_type=JSON)


async def _of_defect(_: Request, __: Exception) -> Response:
    content = json.dumps({"error_code": "INTERNAL_ERROR", "message": "an unexpected error; the server's log has it"})
    return Response(content, 500, media_type=JSON)
