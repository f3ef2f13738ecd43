"""The log of requests: a JSON object a line."""

import json
import logging
import queue
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from logging.handlers import QueueListener, WatchedFileHandler
from typing import Any

from sensai.errors import InputError

_log = logging.getLogger(__name__)
STANDARD_OUTPUT = "-"

# Takes the facts of one request.
AccessLog = Callable[[Mapping[str, Any]], None]


@contextmanager
def open_access_log(path: str) -> Iterator[AccessLog]:
    """Yield a function that logs the facts of a request. A thread writes, so that requests never wait for a disk.

    Args:
        path: of the file, which is appended to; - for standard output; empty: nothing is logged.

    Raises:
        InputError: the file cannot be opened.
    """
    if not path:
        yield lambda _: None
        return
    lines: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listener = QueueListener(lines, _handler(path))
    listener.start()
    try:
        yield lambda facts: lines.put(logging.makeLogRecord({"msg": json.dumps(facts)}))
    finally:
        listener.stop()


class _WarnsOnce(logging.Handler):
    """Warns of the first line that cannot be written: the disk may be full, or the reader gone."""

    _warned = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the name is logging's)
        if not self._warned:
            self._warned = True
            _log.warning("access_log: lines cannot be written (%s)", sys.exception())


class _OutputLines(_WarnsOnce, logging.StreamHandler):
    pass


class _FileLines(_WarnsOnce, WatchedFileHandler):
    """Begins a new file where the old one was moved away, as logrotate does."""


def _handler(path: str) -> logging.Handler:
    if path == STANDARD_OUTPUT:
        return _OutputLines(sys.stdout)
    try:
        return _FileLines(path, encoding="utf-8")
    except OSError as error:
        raise InputError(f"access_log={path!r}: cannot be written ({error.strerror})") from error
