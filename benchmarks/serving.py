"""Measure what a server adds to an ensemble in process: latency, throughput, large bodies beside small ones, memory.

python benchmarks/serving.py [--arch vgg19_bn] [--share 0.0556] [--round_to 16] [--scope all] [--members 10]
    [--requests 200] [--rounds 4] [--seconds 10] [--many 10000] [--servers serve mlflow ray] [--page FILE]

Weights and plans are random. Binary members have at most `share` of the base model's FLOPs and take images of 32x32 pixels. All
servers have the same registered version, and the script checks first that they give the same probabilities:

- `in process`: the model itself, called by a thread.
- `serve`: `sensai serve`, one process. `npy` sends a raw array, `json` the same as nested lists, `jpeg` an image file of
  224x224 pixels, which the server decodes and fits.
- `mlflow`: `mlflow models serve` with one worker.
- `ray`: `sensai serve --backend ray`, one replica of each shard on a Ray of this machine.

Servers and clients share this machine and talk over loopback. A client keeps its connection and encodes its body before. The
ways take turns: in each of `rounds`, each gets `requests`. Latencies are milliseconds until the answer has been read. `over_ms`
is p50 - p50 in process, `p99 / p50` is a ratio of one row.

- `four clients`: answers a second over the calls a second of four threads in process. The clients are four connections of
  `wrk`, which is no Python (Debian's package wrk); without it the row is left out.
- `beside 50 MB`: p99 of small requests while another client sends arrays of 50 MB without a pause, over p99 without them.
  They are `refused` by the default limit, or `read` (`body_limit=64`) and then refused for their shape.
- `memory`: MiB that the resident memory of `serve` grows in `many` requests, after a tenth as many.

A busy machine gives no figures to keep. `--page` writes the tables into a page, docs/results/serving.md.
"""

import argparse
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import mlflow
import numpy as np
import pandas as pd
import psutil
from mlflow.tracking import MlflowClient
from PIL import Image
from synthetic import add_member_arguments, random_ensemble

from sensai.analysis.markdown import write_table
from sensai.ensemble.calibration import RAW
from sensai.evaluation import host
from sensai.registry.image_format import ImageFormat
from sensai.registry.pyfunc_model import EnsembleModel
from sensai.registry.registered import open_model
from sensai.registry.versions import register_ensemble

_NAME = "benchmark"
_URI = f"models:/{_NAME}/1"
_START_SECONDS, _ANSWER_SECONDS = 300, 120
_OURS = [str(Path(__file__).resolve().parent.parent / "entrypoints" / "serve.py"), "--model_uri", _URI]
_SERVERS = {
    "serve": _OURS,
    "mlflow": ["-m", "mlflow", "models", "serve", "--env-manager", "local", "--workers", "1", "--model-uri", _URI],
    "ray": [*_OURS, "--backend", "ray"],
}
_CLIENTS = 4
_LARGE_BYTES = 50 * 10**6
_WITHIN = "in process"

# A call sends one request and waits for the answer.
Ask = Callable[[], object]


@dataclass(frozen=True)
class Body:
    """Hold what a client sends: its content, and the type of it."""

    content: bytes
    kind: str


@dataclass(frozen=True)
class Server:
    """A server that answers: its port, and its process."""

    port: int
    process: psutil.Process


def main() -> None:
    """Print tables for people, and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="vgg19_bn")
    add_member_arguments(parser)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--requests", type=int, default=200, help="requests in a round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=10, help="of the loads of four clients and of large bodies")
    parser.add_argument("--many", type=int, default=10_000, help="requests between two looks at the memory")
    parser.add_argument("--servers", nargs="+", choices=list(_SERVERS), default=list(_SERVERS))
    parser.add_argument("--page", type=Path, help="page whose tables are replaced")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        array = _register(Path(folder), arguments)
        model = stack.enter_context(open_model(MlflowClient(), _URI))
        servers = {name: stack.enter_context(_server(_SERVERS[name], Path(folder))) for name in arguments.servers}
        latencies = _latency_table(model, array, servers, arguments)
        checks = _checks(model, array, servers, Path(folder), arguments) if "serve" in servers else pd.DataFrame()
    print(latencies.to_string(index=False), checks.to_string(index=False), sep="\n\n")
    machine = ", ".join(f"{key}: {value}" for key, value in host().items())
    print(machine)
    if arguments.page:
        write_table(arguments.page, "latencies", latencies)
        write_table(arguments.page, "checks", checks)
        write_table(arguments.page, "machine", pd.DataFrame([host()]))
    rows = {"rows": latencies.to_dict("records"), "checks": checks.to_dict("records")}
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}
    print(json.dumps({"benchmark": "serving", "host": host(), "arguments": settings, **rows}))


def _register(folder: Path, arguments: argparse.Namespace) -> np.ndarray:
    """Register an ensemble in a store for this process and the servers, and return an image for it, uint8 (1, H, W, C)."""
    os.environ |= {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    client = MlflowClient()
    experiment = client.create_experiment(_NAME, artifact_location=(folder / "artifacts").as_uri())
    os.environ["MLFLOW_EXPERIMENT_ID"] = experiment
    _, ensemble = random_ensemble(
        arguments.arch, arguments.share, arguments.round_to, arguments.scope, arguments.members
    )
    array = np.random.default_rng(0).integers(0, 256, (1, *ensemble.spec.image_size, 3), np.uint8)
    run_id = client.create_run(experiment).info.run_id
    register_ensemble(client, run_id, ensemble, RAW, ImageFormat(), array, _NAME, {})
    client.set_terminated(run_id)
    return array


@contextmanager
def _server(arguments: list[str], folder: Path) -> Iterator[Server]:
    """Start a server; it ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / f"server-{port}.log"
    with log.open("w") as output:
        command = [sys.executable, *arguments, "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait_for(port, process, log)
        yield Server(port, psutil.Process(process.pid))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _wait_for(port: int, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            connection = HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.2)
    raise RuntimeError(f"no answer at port {port}:\n{log.read_text()}")


def _client(server: Server, body: Body, status: int = 200) -> Ask:
    """Return a client that keeps its connection."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=_ANSWER_SECONDS)

    def ask() -> bytes:
        try:
            connection.request("POST", "/invocations", body.content, {"Content-Type": body.kind})
            answer = connection.getresponse()
            content = answer.read()
        except OSError:
            # The next call opens it again.
            connection.close()
            raise
        if answer.status != status:
            raise RuntimeError(f"status {answer.status}: {content[:500]!r}")
        return content

    return ask


def _bodies(array: np.ndarray) -> dict[str, Body]:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((224, 224), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return {
        "npy": _npy(array),
        "json": Body(json.dumps({"inputs": array.tolist()}).encode(), "application/json"),
        "jpeg": Body(file.getvalue(), "image/jpeg"),
    }


def _npy(array: np.ndarray) -> Body:
    file = io.BytesIO()
    np.save(file, array)
    return Body(file.getvalue(), "application/octet-stream")


def _latency_table(
    model: EnsembleModel, array: np.ndarray, servers: dict[str, Server], arguments: argparse.Namespace
) -> pd.DataFrame:
    """Return a row for each way to ask."""
    bodies = _bodies(array)
    ways: dict[tuple[str, str], Ask] = {(_WITHIN, "array"): lambda: model.predict(None, array)}
    for name, server in servers.items():
        for form, body in bodies.items():
            if name != "mlflow" or form == "json":
                ways[name, form] = _client(server, body)
    _check_same_answers(ways)
    milliseconds: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    for _ in range(arguments.rounds):
        for way, ask in ways.items():
            milliseconds[way] += _timed(ask, arguments.requests)
    base = np.median(milliseconds[_WITHIN, "array"])
    return pd.DataFrame([_latency_row(*way, each, float(base)) for way, each in milliseconds.items()])


def _latency_row(asked: str, form: str, milliseconds: list[float], base: float) -> dict[str, str]:
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99])
    return {
        "asked": asked,
        "sent": form,
        "p50_ms": f"{p50:.2f}",
        "p95_ms": f"{p95:.2f}",
        "p99_ms": f"{p99:.2f}",
        "over_ms": f"{p50 - base:.2f}",
        "p99 / p50": f"{p99 / p50:.2f}",
    }


def _check_same_answers(ways: dict[tuple[str, str], Ask]) -> None:
    expected = np.asarray(ways[_WITHIN, "array"]())
    if not np.isfinite(expected).all():
        raise ValueError("--members: some class has no member, so there are no probabilities to compare")
    for (asked, form), ask in ways.items():
        if asked != _WITHIN and form != "jpeg":
            answer: Any = ask()
            np.testing.assert_allclose(pd.DataFrame(json.loads(answer)["predictions"]), expected, atol=1e-5)


def _timed(ask: Ask, count: int) -> list[float]:
    """Return the milliseconds of each call, after one that warms up."""
    # Servers close connections that were idle since the last round.
    with suppress(OSError):
        ask()
    ask()
    milliseconds = []
    for _ in range(count):
        start = time.perf_counter()
        ask()
        milliseconds.append((time.perf_counter() - start) * 1e3)
    return milliseconds


def _checks(
    model: EnsembleModel, array: np.ndarray, servers: dict[str, Server], folder: Path, arguments: argparse.Namespace
) -> pd.DataFrame:
    """Return the rows on load: what was measured, the goal, and what was found."""
    server, body = servers["serve"], _npy(array)
    rows = []
    if shutil.which("wrk"):
        within = _calls_per_s(lambda: model.predict(None, array), arguments.seconds)
        over_http = _wrk_per_s(server, body, folder, arguments.seconds)
        rows.append(("four clients: answers a second / in process", "at least 0.8", f"{over_http / within:.2f}"))
    else:
        print("wrk is not installed (Debian: apt-get install wrk): no row for four clients", file=sys.stderr)
    rows.append(
        ("beside 50 MB, refused: p99 / p99 alone", "at most 2", f"{_p99_ratio(server, body, 413, arguments):.2f}")
    )
    with _server([*_OURS, "--body_limit", "64"], folder) as reading:
        rows.append(
            ("beside 50 MB, read: p99 / p99 alone", "at most 2", f"{_p99_ratio(reading, body, 400, arguments):.2f}")
        )
    ask = _client(server, body)
    _timed(ask, arguments.many // 10)
    before = server.process.memory_info().rss
    _timed(ask, arguments.many)
    grown = (server.process.memory_info().rss - before) / 2**20
    rows.append((f"memory: MiB more after {arguments.many} requests", "about 0", f"{grown:.1f}"))
    return pd.DataFrame(rows, columns=["measured", "goal", "found"])


def _calls_per_s(call: Ask, seconds: float) -> float:
    """Return the calls a second of four threads."""
    until = time.perf_counter() + seconds

    def call_until(_: int) -> int:
        count = 0
        while time.perf_counter() < until:
            call()
            count += 1
        return count

    with ThreadPoolExecutor(_CLIENTS) as pool:
        return sum(pool.map(call_until, range(_CLIENTS))) / seconds


def _wrk_per_s(server: Server, body: Body, folder: Path, seconds: int) -> float:
    """Return the answers a second that `wrk` gets with four connections."""
    content, script = folder / "body", folder / "post.lua"
    content.write_bytes(body.content)
    script.write_text(
        f'local file = io.open("{content}", "rb")\nwrk.method = "POST"\nwrk.body = file:read("*a")\n'
        f'wrk.headers["Content-Type"] = "{body.kind}"\n'
    )
    command = ["wrk", "-t", "1", "-c", str(_CLIENTS), "-d", f"{seconds}s", "-s", str(script)]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{server.port}/invocations"], capture_output=True, text=True, check=True
    )
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    if found is None or "Non-2xx" in done.stdout:
        raise RuntimeError(done.stdout)
    return float(found[1])


def _p99_ratio(server: Server, small: Body, status: int, arguments: argparse.Namespace) -> float:
    """Return p99 of small requests while large ones arrive, over p99 alone; the two take turns."""
    # The shape is wrong, so that its images are read and not answered.
    large = _npy(np.zeros((_LARGE_BYTES // 5, 5), np.uint8))
    ask = _client(server, small)
    alone, beside = [], []
    for _ in range(arguments.rounds):
        alone += _timed(ask, arguments.requests)
        with _sending(server, large, status):
            beside += _timed(ask, arguments.requests)
    return float(np.percentile(beside, 99) / np.percentile(alone, 99))


@contextmanager
def _sending(server: Server, body: Body, status: int) -> Iterator[None]:
    """Send a body again and again while the block runs."""
    ended = threading.Event()

    def send() -> None:
        while not ended.is_set():
            # A server may close the connection before it has read a body that it refuses.
            with suppress(OSError):
                _client(server, body, status)()

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        try:
            yield
        finally:
            ended.set()
        sending.result()


if __name__ == "__main__":
    main()
