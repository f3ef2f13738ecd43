"""An ensemble behind HTTP in one process, for as long as a block runs."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from socket import socket

import uvicorn
from mlflow.tracking import MlflowClient
from starlette.types import ASGIApp

from sensai.registry.registered import Registered, find
from sensai.serving.access_log import AccessLog, open_access_log
from sensai.serving.alias import following
from sensai.serving.listening import Address, HttpOptions
from sensai.serving.local_members import LocalVersion, Threads

# A process that does not end within a minute after a signal is ended by force.
_MOST_SECONDS_TO_END = 40
# A client that pauses for longer opens a new connection.
_SECONDS_IDLE = 60
_SECONDS_BETWEEN_LOOKS = 0.01


class LocalServer:
    """An ensemble that answers requests in this process.

    Attributes:
        version: the one that answers; None while it is loading. A request takes it once, so one version answers all of it.
    """

    def __init__(self, options: HttpOptions, threads: Threads, log: AccessLog) -> None:
        self._threads = threads
        self.version: LocalVersion | None = None
        self._http, self.app = options.application(lambda: self.version, log)

    def load(self, registered: Registered) -> None:
        """Open a version, and let it answer from now on; requests in flight keep the version that they have.

        Raises:
            InputError: its files cannot be read, or are not those that were registered.
        """
        self.version = LocalVersion(registered, self._threads)

    @property
    def answered(self) -> int:
        """Return the number of requests with predictions."""
        return self._http.answered


@contextmanager
def served_locally(
    model_uri: str, address: Address, options: HttpOptions, *, follow_alias: bool
) -> Iterator[LocalServer]:
    """Serve a registered ensemble while the block runs; its end answers what is in flight.

    Args:
        model_uri: of a version, or an alias.
        address: where to listen.
        options: of the HTTP interface.
        follow_alias: serve the version that the alias moves to.

    Raises:
        InputError: the address cannot be listened on; there is no such model, or its files are not those that were
            registered; the access log cannot be written.
    """
    client = MlflowClient()
    with address.listener() as listener, open_access_log(options.access_log) as log, Threads.started() as threads:
        registered = find(client, model_uri)
        server = LocalServer(options, threads, log)
        with _running(server.app, listener, options.limits.seconds):
            server.load(registered)
            with following(client, model_uri, registered, server.load) if follow_alias else nullcontext():
                yield server


@contextmanager
def _running(app: ASGIApp, listener: socket, seconds: float) -> Iterator[None]:
    """Run an application in a thread; at the end of the block it answers what is in flight, for at most some seconds."""
    config = uvicorn.Config(
        app,
        # Our own log has the requests, and nothing starts or ends with the application.
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_SECONDS_IDLE,
        timeout_graceful_shutdown=min(int(seconds) + 1, _MOST_SECONDS_TO_END),
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="sensai-http")
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the HTTP server could not be started; its messages stand above")
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        yield
    finally:
        server.should_exit = True
        thread.join()
