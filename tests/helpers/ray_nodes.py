"""A real Ray cluster of several nodes on this machine."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import chdir, contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.conftest import ROOT
from tests.helpers.processes import still_running

if TYPE_CHECKING:
    import ray
    from ray.cluster_utils import Cluster


def _node(cpus: int) -> dict[str, object]:
    return {"num_cpus": cpus, "node_ip_address": "127.0.0.1"}


def add_node(cluster: "Cluster", cpus: int) -> None:
    """Add a node that outlives the test.

    Its workers start in the current folder. If that were a folder of the test and gone with it, oneMKL would end them.
    """
    with chdir(ROOT):
        cluster.add_node(**_node(cpus))


@contextmanager
def ray_nodes(count: int, cpus: int) -> Iterator["Cluster"]:
    """Start so many nodes of so many CPUs each, and end them after the block."""
    # Names of sockets have at most 107 bytes, so pytest's folders are too deep. Ray reads the other settings when it is
    # imported.
    with tempfile.TemporaryDirectory(prefix="ray") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        patch.setenv("RAY_health_check_period_ms", "500")
        # By default tasks give way to other processes, such as other tests, and these tests would wait for them in vain.
        patch.setenv("RAY_worker_niceness", "0")
        # Workers started in advance would lack the environment that comes with a task.
        patch.setenv("RAY_prestart_worker_first_driver", "0")
        from ray.cluster_utils import Cluster

        unwatched = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
        made = Cluster(initialize_head=True, head_node_args=_node(cpus) | unwatched)
        try:
            for _ in range(count - 1):
                add_node(made, cpus)
            yield made
        finally:
            # Other processes of this one may stay, for example the one that manages its semaphores.
            processes = [each for each in psutil.Process().children(recursive=True) if "ray" in title(each)]
            made.shutdown()
            assert still_running(processes, 30) == []


def raylet_of(node: "ray.node.Node") -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def workers(nodes: Iterable["ray.node.Node"], name: str) -> list[psutil.Process]:
    """Return the processes on these nodes whose title contains a name."""
    return [process for node in nodes for process in raylet_of(node).children() if name in title(process)]


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
