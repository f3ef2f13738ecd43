"""The address of a server, and the options of its HTTP interface."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp

from sensai.errors import InputError
from sensai.serving.access import Token
from sensai.serving.access_log import AccessLog
from sensai.serving.http_application import Current, HttpApplication, Limits
from sensai.serving.server_metrics import ServerMetrics
from sensai.serving.watched_application import WatchedApplication


@dataclass(frozen=True)
class Address:
    """Name the host and port that a server listens on.

    Attributes:
        host: name or IP address.
        port: number.
    """

    host: str
    port: int

    @contextmanager
    def listener(self) -> Iterator[socket.socket]:
        """Yield a socket that is bound to the address.

        Raises:
            InputError: it cannot be listened on.
        """
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0]
            # asyncio sends small answers at once only where the protocol is named.
            listener = socket.socket(family, kind, protocol)
        except OSError as error:
            raise self.refused(error) from error
        with listener:
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
            except OSError as error:
                raise self.refused(error) from error
            yield listener

    def refused(self, why: object) -> InputError:
        """Return the error for an address that cannot be listened on."""
        return InputError(f"host={self.host!r}, port={self.port}: cannot be listened on ({why})")


@dataclass(frozen=True)
class HttpOptions:
    """The options of the HTTP interface.

    Attributes:
        limits: of a request.
        token: that requests must have; None: everybody may ask.
        access_log: as `open_access_log` takes it.
    """

    limits: Limits
    token: Token | None = None
    access_log: str = ""

    def application(self, current: Current, log: AccessLog) -> tuple[HttpApplication, ASGIApp]:
        """Return the routes, and the application around them that a server runs.

        Args:
            current: returns the version that answers.
            log: takes the facts of each request.
        """
        metrics = ServerMetrics()
        http = HttpApplication(current, self.limits, metrics)
        return http, WatchedApplication(http.app, self.token, metrics, log)
