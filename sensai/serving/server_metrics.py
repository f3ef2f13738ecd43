"""The metrics of a server, in the text format of Prometheus. Without the package prometheus-client nothing is counted."""

import importlib.util
from typing import Any

from sensai.serving.open_version import Answer, OpenVersion

# From a small member on one core to a large batch.
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class ServerMetrics:
    """Counts requests, images and seconds."""

    def __init__(self) -> None:
        self._there = importlib.util.find_spec("prometheus_client") is not None
        if self._there:
            self._make()

    def _make(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        own: dict[str, Any] = {"registry": (registry := CollectorRegistry())}
        self._registry = registry
        self._requests = Counter("sensai_requests", "Requests by path and status", ["path", "status"], **own)
        self._seconds = Histogram(
            "sensai_request_seconds", "Seconds from headers to answer, by path", ["path"], buckets=_SECONDS, **own
        )
        self._steps = Histogram(
            "sensai_step_seconds", "Seconds of decode, members and combine", ["step"], buckets=_SECONDS, **own
        )
        self._images = Counter("sensai_images", "Images with predictions", **own)
        self._open = Gauge("sensai_requests_open", "Requests that wait for their answer", **own)
        self._ready = Gauge("sensai_ready", "1 when requests are answered, 0 while members load", **own)
        self._model = Gauge("sensai_model", "1 for the version that answers", ["model"], **own)

    def count(self, answer: Answer) -> None:
        """Count the images and the times of an answer."""
        if self._there:
            self._images.inc(answer.images)
            for step, milliseconds in answer.stopwatch.milliseconds.items():
                self._steps.labels(step).observe(milliseconds / 1e3)

    def begin(self) -> None:
        """Count a request that has come."""
        if self._there:
            self._open.inc()

    def end(self, path: str, status: int, seconds: float) -> None:
        """Count a request that is answered; `path` is one of the server's own, or `other`."""
        if self._there:
            self._open.dec()
            self._requests.labels(path, status).inc()
            self._seconds.labels(path).observe(seconds)

    def render(self, version: OpenVersion | None) -> tuple[bytes, int, dict[str, str]] | None:
        """Return content, status and headers of the answer to Prometheus; None: the package is not installed."""
        if not self._there:
            return None
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        self._ready.set(version is not None)
        self._model.clear()
        if version is not None:
            self._model.labels(version.name).set(1)
        return generate_latest(self._registry), 200, {"Content-Type": CONTENT_TYPE_LATEST}
