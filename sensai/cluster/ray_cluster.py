"""A Ray cluster for workers: an existing one, or a local Ray that ends with the block that uses it."""

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

import sensai
from sensai.cluster.nodes import Node
from sensai.errors import InputError
from sensai.terminal import waiting

_HEAD = Path(__file__).with_name("ray_head.py")
_ROOT = Path(sensai.__file__).resolve().parents[1]
_SECONDS_TO_ANSWER = 5.0
_SECONDS_TO_END = 30.0


class RayCluster:
    """The cluster to which this process is connected."""

    @property
    def nodes(self) -> list[Node]:
        """Return the nodes that are alive, as far as known."""
        import ray

        return [
            Node(node["NodeManagerAddress"], *(int(node["Resources"].get(name, 0)) for name in ("CPU", "GPU")))
            for node in ray.nodes()
            if node["Alive"]
        ]

    @property
    def loopback(self) -> bool:
        """Return True if all nodes are on this machine and listen only on loopback."""
        return all(node.host.startswith("127.") for node in self.nodes)


@contextmanager
def ray_cluster(address: str) -> Iterator[RayCluster]:
    """Connect to a Ray cluster while the block runs.

    Args:
        address: of a running cluster that this machine belongs to, `host:port` or `auto`; empty: a local Ray is
            started, which listens only on loopback and ends with the block or with this process. Ray
            must not have been imported before, because it reads its settings then.

    Raises:
        InputError: Ray is not installed, does not start, or does not answer.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError("backend='ray': needs the package ray: pip install ray")
    if address:
        _check(address)
        with _joined(address) as cluster:
            yield cluster
    else:
        with _started() as own, _joined(own) as cluster:
            yield cluster


@contextmanager
def _joined(address: str) -> Iterator[RayCluster]:
    # Ray reads the environment when it is imported, so the import comes after the settings.
    import ray

    try:
        # A checkout need not be installed; it lies at the same path on every machine.
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        environment = {"env_vars": {"PYTHONPATH": path}}
        with waiting("joins the Ray cluster"), _own_handler(signal.SIGTERM):
            ray.init(address, runtime_env=environment, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise InputError(f"ray_address={address!r}: {' '.join(str(error).split())}") from error
    try:
        yield RayCluster()
    finally:
        ray.shutdown()


@contextmanager
def _own_handler(number: signal.Signals) -> Iterator[None]:
    """Restore the handler of a signal after the block, because Ray's handler delays the end of a process by three seconds."""
    handler = signal.getsignal(number)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)


@contextmanager
def _started() -> Iterator[str]:
    """Yield the address of a local Ray."""
    # Without "clusters" Ray uses the loopback address on every system. The token keeps other users of this machine out.
    # Workers started in advance would lack the environment of our tasks, so they could never be used.
    os.environ |= {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_prestart_worker_first_driver": "0",
    }
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # With -P, modules are not searched in the script's folder.
    command = [sys.executable, "-P", str(_HEAD), str(cpu_count())]
    head = subprocess.Popen(  # noqa: S603 (our own script)
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    with head:
        try:
            with waiting("starts Ray on this machine"):
                address = head.stdout.readline().strip()  # type: ignore[union-attr]
            if not address:
                raise InputError("Ray could not be started; its messages stand above")
            yield address
        finally:
            head.stdin.close()  # type: ignore[union-attr]
            try:
                head.wait(_SECONDS_TO_END)
            finally:
                head.kill()


def _check(address: str) -> None:
    """Raise an error at once if nothing listens, since Ray itself tries for many minutes."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"ray_address={address!r}: nothing answers there ({error})") from error
