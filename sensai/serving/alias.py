"""Follow an alias of the registry: load the version that it moves to."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlflow.tracking import MlflowClient

from sensai.errors import described
from sensai.registry.aliases import aliases_of
from sensai.registry.registered import Registered, find

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LOOKS = 1.0


class _Follower:
    """Looks where an alias points, and loads the version there."""

    def __init__(
        self, client: MlflowClient, model_uri: str, registered: Registered, load: Callable[[Registered], None]
    ) -> None:
        self._client = client
        self._uri = model_uri
        self._name = model_uri.removeprefix("models:/").partition("@")[0]
        self._loaded = registered.uri
        self._load = load
        # Only where aliases have changed is the version looked up, since that may log a warning.
        self._seen: dict[str, str] = {}
        self._failure = ""

    def follow(self, ended: threading.Event) -> None:
        """Look once a second until an event is set. What fails is logged once, and tried again; the old version answers."""
        while not ended.wait(_SECONDS_BETWEEN_LOOKS):
            try:
                self._look()
                self._failure = ""
            # The store may be away for a while, or the new version be damaged: a server must live on.
            except Exception as error:
                if (failure := described(error)) != self._failure:
                    _log.warning("%s: %s still answers: %s", self._uri, self._loaded, failure)
                self._failure = failure

    def _look(self) -> None:
        aliases = aliases_of(self._client, self._name)
        if aliases == self._seen:
            return
        registered = find(self._client, self._uri)
        if registered.uri != self._loaded:
            self._load(registered)
            self._loaded = registered.uri
            _log.info("%s: now %s answers", self._uri, registered.uri)
        self._seen = aliases


@contextmanager
def following(
    client: MlflowClient, model_uri: str, registered: Registered, load: Callable[[Registered], None]
) -> Iterator[None]:
    """Follow an alias while the block runs.

    Args:
        client: of the registry.
        model_uri: models:/<name>@<alias>.
        registered: the version that is loaded.
        load: loads another version, or raises an error.
    """
    ended = threading.Event()
    follower = _Follower(client, model_uri, registered, load)
    thread = threading.Thread(target=follower.follow, args=(ended,), name="sensai-alias")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
