"""A Ray cluster for workers: one that runs, or a Ray of this machine that ends with the block that uses it."""

import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from joblib import cpu_count

from sensai.cluster.nodes import Node
from sensai.errors import InputError

_HEAD = Path(__file__).with_name("ray_head.py")
_CHECKOUT = Path(__file__).resolve().parents[3]
_SECONDS_TO_ANSWER = 5.0
_SECONDS_TO_END = 30.0


class RayCluster:
    """The cluster that this process is connected to."""

    @property
    def nodes(self) -> list[Node]:
        """Those that live, as far as is known."""
        import ray

        return [
            Node(node["NodeManagerAddress"], *(int(node["Resources"].get(name, 0)) for name in ("CPU", "GPU")))
            for node in ray.nodes()
            if node["Alive"]
        ]

    @property
    def loopback(self) -> bool:
        """All nodes are on this machine, and nothing beyond it is listened to."""
        return all(node.host.startswith("127.") for node in self.nodes)


@contextmanager
def ray_cluster(address: str) -> Iterator[RayCluster]:
    """Be connected to a Ray cluster while the block runs.

    Args:
        address: of a running cluster that this machine belongs to, `host:port` or `auto`; empty: a Ray of this machine is
            started, which listens on loopback only and ends with the block, and with this process however that ends. Ray
            must not have been imported before, as it reads its settings only then.

    Raises:
        InputError: Ray is not installed, does not start, or does not answer.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError("backend='ray': needs the package ray: pip install -e '.[ray]'")
    if address:
        _check(address)
        with _joined(address) as cluster:
            yield cluster
    else:
        with _started() as own, _joined(own) as cluster:
            yield cluster


@contextmanager
def _joined(address: str) -> Iterator[RayCluster]:
    # Ray reads the environment when it is imported, so that is done no earlier.
    import ray

    try:
        # The checkout is not installed, and lies at the same path on every machine.
        path = os.pathsep.join(filter(None, [str(_CHECKOUT), os.environ.get("PYTHONPATH")]))
        environment = {"env_vars": {"PYTHONPATH": path}}
        with _own_handler(signal.SIGTERM):
            ray.init(address, runtime_env=environment, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise InputError(f"ray_address={address!r}: {' '.join(str(error).split())}") from error
    try:
        yield RayCluster()
    finally:
        ray.shutdown()


@contextmanager
def _own_handler(number: signal.Signals) -> Iterator[None]:
    """What the block installs for a signal is gone after it: Ray's handler lets a process live on for three seconds only."""
    handler = signal.getsignal(number)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)


@contextmanager
def _started() -> Iterator[str]:
    """The address of a Ray of this machine."""
    # Without "clusters" Ray takes the loopback address for its own, on every system. The token keeps other users of this
    # machine out. Workers started in advance lack the environment that workers are given, and would never be of use.
    os.environ |= {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_prestart_worker_first_driver": "0",
    }
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # -P: the script's folder is not where modules are looked for.
    command = [sys.executable, "-P", str(_HEAD), str(cpu_count())]
    head = subprocess.Popen(  # noqa: S603 (our own script)
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    with head:
        try:
            if not (address := head.stdout.readline().strip()):  # type: ignore[union-attr]
                raise InputError("Ray could not be started; what it says stands above")
            yield address
        finally:
            head.stdin.close()  # type: ignore[union-attr]
            try:
                head.wait(_SECONDS_TO_END)
            finally:
                head.kill()


def _check(address: str) -> None:
    """Fail at once where nothing listens: Ray by itself tries for many minutes."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"ray_address={address!r}: nothing answers there ({error})") from error
