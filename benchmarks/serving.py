"""Measure the latency that a server adds to one image: an ensemble in process, in `mlflow models serve`, and in `serve`.

python benchmarks/serving.py [--arch vgg19_bn] [--share 0.0556] [--round_to 16] [--scope all] [--members 10]
    [--clients 1 4] [--requests 200] [--rounds 4] [--shards 2]

Weights and plans are random. Binary members have at most `share` of the base model's FLOPs, and images have 32x32 pixels. All
three use the same registered version, and the script checks first that they give the same probabilities:

- `in process`: the model itself, called by one thread for each client.
- `mlflow`: one worker.
- `serve`: one replica of each shard, on a Ray of this machine.

Servers and clients share this machine and talk over loopback. Clients keep their connections, and encode the JSON before the
clock starts. The three take turns: in each of `rounds`, each gets `requests`. Latencies are milliseconds until the answer has
been read. `p50_ratio` is p50 / p50 in process with as many clients. `empty` is the latency of GET /health for one client: the
time for HTTP alone (`serve` also asks every shard).
"""

import argparse
import json
import os
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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import mlflow
import numpy as np
import pandas as pd
import requests
from mlflow.tracking import MlflowClient
from synthetic import add_member_arguments, random_ensemble

from sensai.ensemble.calibration import RAW
from sensai.evaluation import host
from sensai.registry.image_format import ImageFormat
from sensai.registry.registered import open_model
from sensai.registry.versions import register_ensemble

_NAME = "benchmark"
_URI = f"models:/{_NAME}/1"
_START_SECONDS = 300
_ANSWER_SECONDS = 60
_QUANTILES = (50, 95, 99)
_SERVERS = {
    "mlflow": ["-m", "mlflow", "models", "serve", "--env-manager", "local", "--workers", "1"],
    "serve": [str(Path(__file__).resolve().parent.parent / "entrypoints" / "serve.py")],
}

# A call sends one image and waits for the answer.
Ask = Callable[[], object]
# A call opens a connection; each client has its own.
Client = Callable[[], Ask]


def main() -> None:
    """Print a table for people, and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="vgg19_bn")
    add_member_arguments(parser)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4], help="numbers of clients at once")
    parser.add_argument("--requests", type=int, default=200, help="requests of all clients together in a round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--shards", type=int, help="shards of `serve` (default: one a core)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        image = _register(Path(folder), arguments)
        model = stack.enter_context(open_model(MlflowClient(), _URI))
        options = {"serve": ["--shards", str(arguments.shards)] if arguments.shards else []}
        urls = {
            name: stack.enter_context(_server([*command, *options.get(name, [])], Path(folder) / f"{name}.log"))
            for name, command in _SERVERS.items()
        }
        ways = {"in process": lambda: lambda: model.predict(None, image)}
        ways |= {name: _client(f"{url}/invocations", image) for name, url in urls.items()}
        _check_same_answers(ways)
        table = _time_requests(ways, arguments)
        empty = {name: _quantiles(_latencies(_client(f"{url}/health"), 1, 100)[0])["p50"] for name, url in urls.items()}
    print(table.round(2).to_string(index=False))
    print("empty, ms:", ", ".join(f"{name} {ms:.2f}" for name, ms in empty.items()))
    print(", ".join(f"{key}: {value}" for key, value in host().items()))
    rows = {"empty_ms": empty, "rows": table.to_dict("records")}
    print(json.dumps({"benchmark": "serving", "host": host(), "arguments": vars(arguments), **rows}))


def _register(folder: Path, arguments: argparse.Namespace) -> np.ndarray:
    """Register an ensemble in a store for this process and the servers, and return an image for it, uint8 (1, H, W, C)."""
    store = f"sqlite:///{folder}/mlflow.db"
    os.environ |= {"MLFLOW_TRACKING_URI": store, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    mlflow.set_tracking_uri(store)
    client = MlflowClient()
    experiment = client.create_experiment(_NAME, artifact_location=(folder / "artifacts").as_uri())
    os.environ["MLFLOW_EXPERIMENT_ID"] = experiment
    _, ensemble = random_ensemble(
        arguments.arch, arguments.share, arguments.round_to, arguments.scope, arguments.members
    )
    image = np.random.default_rng(0).integers(0, 256, (1, *ensemble.spec.image_size, 3), np.uint8)
    run_id = client.create_run(experiment).info.run_id
    register_ensemble(client, run_id, ensemble, RAW, ImageFormat(), image, _NAME, {})
    client.set_terminated(run_id)
    return image


@contextmanager
def _server(arguments: list[str], log: Path) -> Iterator[str]:
    """Start a server, and return its URL. The server ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, *arguments, "--model_uri" if "serve.py" in arguments[0] else "--model-uri", _URI]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait_for(url, process, log)
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(f"{url}/health", timeout=_ANSWER_SECONDS).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    raise RuntimeError(f"no answer from {url}:\n{log.read_text()}")


def _client(url: str, image: np.ndarray | None = None) -> Client:
    """Return a client that keeps its connection, and sends it the image, or without an image a GET."""
    body = None if image is None else json.dumps({"inputs": image.tolist()})

    def make() -> Ask:
        session = requests.Session()
        session.headers["Content-Type"] = "application/json"

        def ask() -> requests.Response:
            answer = session.request("GET" if body is None else "POST", url, data=body, timeout=_ANSWER_SECONDS)
            answer.raise_for_status()
            return answer

        return ask

    return make


def _check_same_answers(ways: dict[str, Client]) -> None:
    inside, *outside = (make()() for make in ways.values())
    for answer in outside:
        np.testing.assert_allclose(pd.DataFrame(answer.json()["predictions"]), inside, atol=1e-5)


def _time_requests(ways: dict[str, Client], arguments: argparse.Namespace) -> pd.DataFrame:
    """Return a row of quantiles and rate for each number of clients and each way to ask."""
    found: dict[tuple[int, str], list[tuple[list[float], float]]] = {}
    for _ in range(arguments.rounds):
        for clients in arguments.clients:
            for name, make in ways.items():
                found.setdefault((clients, name), []).append(_latencies(make, clients, arguments.requests))
    rows = []
    for (clients, name), rounds in found.items():
        milliseconds = [each for latencies, _ in rounds for each in latencies]
        rate = len(milliseconds) / sum(seconds for _, seconds in rounds)
        rows.append({"clients": clients, "asked": name, **_quantiles(milliseconds), "per_s": rate})
    table = pd.DataFrame(rows)
    inside = table[table["asked"] == "in process"].set_index("clients")["p50"]
    return table.assign(p50_ratio=table["p50"] / table["clients"].map(inside))


def _latencies(make: Client, clients: int, count: int) -> tuple[list[float], float]:
    """Return the milliseconds of each request, and the seconds of all. The first request of each client only warms up."""
    ready = threading.Barrier(clients + 1)

    def ask_all(_: int) -> list[float]:
        milliseconds = []
        try:
            ask = make()
            ask()
        except BaseException:
            # The others would wait for this client for ever.
            ready.abort()
            raise
        ready.wait()
        for _ in range(count // clients):
            start = time.perf_counter()
            ask()
            milliseconds.append((time.perf_counter() - start) * 1e3)
        return milliseconds

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask_all, number) for number in range(clients)]
        with suppress(threading.BrokenBarrierError):
            ready.wait()
        start = time.perf_counter()
        milliseconds = [each for client in asking for each in client.result()]
    return milliseconds, time.perf_counter() - start


def _quantiles(milliseconds: list[float]) -> dict[str, float]:
    return {f"p{name}": float(np.percentile(milliseconds, name)) for name in _QUANTILES}


if __name__ == "__main__":
    main()
