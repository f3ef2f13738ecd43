"""What stands before the routes of a server: the token, the access log, metrics, and the log of unexpected errors."""

import json
import logging
import time
from datetime import UTC, datetime

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sensai.serving.access import OPEN_PATHS, Token
from sensai.serving.access_log import AccessLog
from sensai.serving.protocol import JSON
from sensai.serving.server_metrics import ServerMetrics

_log = logging.getLogger(__name__)
_PATHS = {*OPEN_PATHS, "/invocations", "/metrics"}
_LONGEST_PATH = 200
# The client went away before its answer. The number is that of nginx.
_GONE = 499


class WatchedApplication:
    """An ASGI application that lets in who has the token, and records every request."""

    def __init__(self, app: ASGIApp, token: Token | None, metrics: ServerMetrics, log: AccessLog) -> None:
        self._app = app
        self._token = token
        self._metrics = metrics
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.begin()
        try:
            await self._answer(scope, receive, watch)
        except ClientDisconnect:
            status = _GONE
        # The routes have answered with status 500 before they let it pass.
        except Exception:
            _log.exception("%s %s", scope["method"], scope["path"][:_LONGEST_PATH])
        finally:
            self._record(scope, status, time.perf_counter() - start)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._token is None or scope["path"] in OPEN_PATHS or self._token.is_in(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        refusal = {"error_code": "UNAUTHENTICATED", "message": "needs the header Authorization: Bearer <token>"}
        answer = Response(json.dumps(refusal), 401, {"WWW-Authenticate": "Bearer"}, JSON)
        await answer(scope, receive, send)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        path = scope["path"]
        self._metrics.end(path if path in _PATHS else "other", status, seconds)
        client, *_ = scope.get("client") or ("",)
        facts = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "client": client,
            "method": scope["method"],
            "path": path[:_LONGEST_PATH],
            "status": status,
            "ms": round(seconds * 1e3, 3),
        }
        more = scope.get("state", {}).get("facts", {})
        self._log(
            facts | {name: round(value, 3) if isinstance(value, float) else value for name, value in more.items()}
        )
