"""One image to an ensemble in process, to `mlflow models serve`, and to `serve`: what a server adds, for one client and more.

python benchmarks/serving.py [--arch vgg19_bn] [--share 0.0556] [--round_to 16] [--scope all] [--members 10]
    [--clients 1 4] [--requests 200] [--rounds 4] [--shards 2]

Random weights; binary members by random plans of at most `share` of the base model's FLOPs, 32x32 images. All three answer from
the same registered version: `in process` the model itself, called by as many threads as there are clients; `mlflow` by one
worker; `serve` by one replica of each shard on a Ray of this machine. Servers and clients share this machine, over loopback;
clients keep their connections and send JSON made beforehand. Each gets `requests` in each of `rounds` in turn. Latencies are
milliseconds until the answer has been read, with `p50_ratio` = p50 / that of the same number of clients in process. That all
give the same probabilities is checked first. `empty` = a GET of /health, for one client: what HTTP alone takes there (`serve`
asks every shard for it).
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

# Answers one image; each client makes its own.
Ask = Callable[[], object]
Client = Callable[[], Ask]


def main() -> None:
    """Print a table for people, and one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="vgg19_bn")
    add_member_arguments(parser)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4], help="at once")
    parser.add_argument("--requests", type=int, default=200, help="of all clients together, each round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--shards", type=int, help="of serve (default: one a core)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        image = _registered(Path(folder), arguments)
        model = stack.enter_context(open_model(MlflowClient(), _URI))
        given = {"serve": ["--shards", str(arguments.shards)] if arguments.shards else []}
        urls = {
            name: stack.enter_context(_server([*command, *given.get(name, [])], Path(folder) / f"{name}.log"))
            for name, command in _SERVERS.items()
        }
        asked = {"in process": lambda: lambda: model.predict(None, image)}
        asked |= {name: _client(f"{url}/invocations", image) for name, url in urls.items()}
        _check_alike(asked)
        table = _timed(asked, arguments)
        empty = {name: _quantiles(_latencies(_client(f"{url}/health"), 1, 100)[0])["p50"] for name, url in urls.items()}
    print(table.round(2).to_string(index=False))
    print("empty, ms:", ", ".join(f"{name} {ms:.2f}" for name, ms in empty.items()))
    print(", ".join(f"{key}: {value}" for key, value in host().items()))
    rows = {"empty_ms": empty, "rows": table.to_dict("records")}
    print(json.dumps({"benchmark": "serving", "host": host(), "arguments": vars(arguments), **rows}))


def _registered(folder: Path, arguments: argparse.Namespace) -> np.ndarray:
    """Register an ensemble in a store of its own, for this process and the servers; an image for it, uint8 (1, H, W, C)."""
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
    """Where a server answers; it is ended after the block."""
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
    """Sends the image, or nothing, over a connection that it keeps."""
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


def _check_alike(asked: dict[str, Client]) -> None:
    inside, *outside = (make()() for make in asked.values())
    for answer in outside:
        np.testing.assert_allclose(pd.DataFrame(answer.json()["predictions"]), inside, atol=1e-5)


def _timed(asked: dict[str, Client], arguments: argparse.Namespace) -> pd.DataFrame:
    """A row for each number of clients and each that is asked."""
    found: dict[tuple[int, str], list[tuple[list[float], float]]] = {}
    for _ in range(arguments.rounds):
        for clients in arguments.clients:
            for name, make in asked.items():
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
    """The milliseconds of each request, and the seconds of all, without the first of each client."""
    ready = threading.Barrier(clients + 1)

    def ask_all(_: int) -> list[float]:
        milliseconds = []
        try:
            ask = make()
            ask()
        except BaseException:
            # Nobody waits for a client that has failed.
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
