"""A proxy on loopback that passes every request on to a tracking server and records it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/"
# Each side of the proxy sets these headers itself.
_OF_THE_CONNECTION = {"connection", "content-length", "date", "host", "server", "transfer-encoding"}


@dataclass(frozen=True)
class Request:
    """One request as a server received it.

    Attributes:
        method: GET, POST, ...
        path: without the query.
        query: decoded.
        body: decoded JSON; empty if there is none.
        answer: decoded JSON; empty if it is not JSON.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    body: dict[str, Any]
    answer: dict[str, Any]

    @property
    def is_of_an_artifact(self) -> bool:
        """Return True for a request to the artifact part of the server: contents, listings, capabilities."""
        return "/mlflow-artifacts/" in self.path or self.path.endswith("/server-info")

    @property
    def is_upload(self) -> bool:
        """Return True if the content of an artifact goes to the server."""
        return self.method == "PUT" and self.path.startswith(_ARTIFACTS)

    @property
    def is_download(self) -> bool:
        """Return True if the content of an artifact comes from the server."""
        return self.method == "GET" and self.path.startswith(_ARTIFACTS)

    @property
    def run_id(self) -> str:
        """Return the run of the request; empty if it concerns none or many."""
        if self.path.endswith("/runs/create"):
            return str(self.answer["run"]["info"]["run_id"])
        named = self.body.get("run_id") or self.query.get("run_id", [""])[0]
        # The parts are experiment, run (or "models"), "artifacts", path.
        if not named and self.path.startswith(_ARTIFACTS):
            named = self.path.removeprefix(_ARTIFACTS).split("/")[1]
        return str(named)


@dataclass
class Counter:
    """The address of the proxy, and the requests that it passed on.

    Attributes:
        uri: to be used instead of the server's.
        requests: in the order in which they were answered.
    """

    uri: str
    requests: list[Request] = field(default_factory=list)


@contextmanager
def counted(server: str) -> Iterator[Counter]:
    """Yield a proxy before a server."""
    counter = Counter("")
    session = requests.Session()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = self._chunks()
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_THE_CONNECTION}
            answer = session.request(
                self.command, server + self.path, data=body, headers=headers, allow_redirects=False
            )
            url = urlsplit(self.path)
            counter.requests.append(
                Request(self.command, url.path, parse_qs(url.query), _json(body), _json(answer.content))
            )
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name.lower() not in {*_OF_THE_CONNECTION, "content-encoding"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def _chunks(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

        def log_message(self, *_: object) -> None:
            """Print nothing on the terminal."""

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    counter.uri = f"http://127.0.0.1:{proxy.server_port}"
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    try:
        yield counter
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
        session.close()


def _json(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
