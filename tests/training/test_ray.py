"""Workers on a real Ray cluster of several nodes on this machine, whose nodes and drivers are killed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from sensai.cluster.nodes import Node, share_nodes
from sensai.cluster.ray_cluster import ray_cluster
from sensai.errors import InputError
from tests.conftest import ROOT
from tests.helpers.processes import still_running
from tests.helpers.ray_nodes import add_node, ray_nodes, raylet_of
from tests.helpers.ray_nodes import workers as workers_of_nodes
from tests.helpers.retrain_tiny import EPOCHS, epochs_of, files, retrain, start, wait_for

pytestmark = pytest.mark.processes


if TYPE_CHECKING:
    import ray
    from ray.cluster_utils import Cluster

pytest.importorskip("ray", reason="the extra `ray` is not installed")


@pytest.fixture(scope="module")
def cluster() -> Iterator["Cluster"]:
    with ray_nodes(3, cpus=1) as made:
        yield made


@pytest.fixture(scope="module", params=["bce", pytest.param("joint", marks=pytest.mark.long)])
def uninterrupted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    retrain(folder, request.param, 1)
    return request.param, folder


def ended(process: "subprocess.Popen[str]") -> str:
    try:
        return process.communicate(timeout=240)[1]
    finally:
        process.kill()
        process.wait()


def workers(nodes: Iterable["ray.node.Node"]) -> list[psutil.Process]:
    """Return the processes that train on these nodes."""
    return workers_of_nodes(nodes, "_run_numbered")


def lose(cluster: "Cluster") -> None:
    """Kill a node on which a worker runs, with all its processes, like a power failure; then start a new one."""
    lost = next(each for each in cluster.worker_nodes if workers([each]))
    raylet = raylet_of(lost)
    for process in [raylet, *raylet.children(recursive=True)]:
        process.kill()
    cluster.remove_node(lost, allow_graceful=False)
    add_node(cluster, 1)


def written_since(folder: Path, nanoseconds: int) -> set[tuple[str, int]]:
    """Return member and epochs of the checkpoints written since then."""
    found = set()
    for path in (folder / "checkpoints").glob("member_*/*.safetensors"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime_ns > nanoseconds:
                found.add((path.parent.name, int(path.stem)))
    return found


@pytest.mark.long
def test_a_node_that_is_lost_costs_only_the_epochs_since_the_last_checkpoints(
    tmp_path: Path, cluster: "Cluster", uninterrupted: tuple[str, Path]
) -> None:
    loss, whole = uninterrupted
    process = start(tmp_path, loss, 2, cluster.address)
    try:
        # One worker may be half done before the cluster has started the other.
        wait_for(lambda: max(epochs_of(tmp_path)) >= 3 and workers(cluster.worker_nodes) != [], process)
        done = epochs_of(tmp_path)
        assert min(done) < EPOCHS - 5
        lost, written = time.time_ns(), set()
        lose(cluster)
        deadline = time.monotonic() + 240
        while process.poll() is None:
            assert time.monotonic() < deadline
            written |= written_since(tmp_path, lost)
            # Without it this process takes the core that a worker needs.
            time.sleep(0.01)
    finally:
        errors = ended(process)
    assert process.returncode == 0, errors
    assert {name for name, _ in written} == {f"member_{number:03d}" for number in range(3) if done[number] < EPOCHS}
    # Members that learn jointly go back to the last epoch that all have written, which may be one behind.
    assert all(epochs >= done[int(name[-3:])] for name, epochs in written)
    assert files(tmp_path) == files(whole)


@pytest.mark.long
def test_workers_on_a_cluster_end_with_the_process_that_started_them(tmp_path: Path, cluster: "Cluster") -> None:
    # Jointly, so that neither worker ends while the other starts.
    process = start(tmp_path, "joint", 2, cluster.address)
    try:
        wait_for(lambda: min(epochs_of(tmp_path)) >= 2, process)
        assert len(running := workers(cluster.list_all_nodes())) == 2
    finally:
        process.kill()
        process.wait()
    assert still_running(running, 5) == []


@pytest.mark.long
def test_workers_that_learn_jointly_need_room_at_once(tmp_path: Path, cluster: "Cluster") -> None:
    spare = next(iter(cluster.worker_nodes))
    cluster.remove_node(spare)
    try:
        process = start(tmp_path, "joint", 3, cluster.address)
        assert "jobs=3: loss=joint needs all workers at once, and the Ray cluster has room for 2" in ended(process)
        assert process.returncode == 1
    finally:
        add_node(cluster, 1)


# A process on a cluster that was there before ends likewise in the test above.
@pytest.mark.long
def test_sigkill_leaves_nothing_of_a_ray_of_its_own(tmp_path: Path) -> None:
    process = start(tmp_path, "bce", 2, "own")
    try:
        wait_for(lambda: min(epochs_of(tmp_path)) >= 2, process)
        processes = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        listening = [
            connection.laddr.ip
            for each in processes
            for connection in each.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        folders = {
            argument.partition("=")[2]
            for each in processes
            for argument in each.cmdline()
            if argument.startswith("--session-dir")
        }
    finally:
        process.kill()
        process.wait()
    assert listening
    assert set(listening) <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert still_running(processes[1:], 5) == []
    assert folders
    assert not any(Path(folder).exists() for folder in folders)


def test_tasks_read_the_data_set_where_it_is_stored(tmp_path: Path, cluster: "Cluster") -> None:
    """One copy for all jobs: mapped arrays are stored as arrays, not as bytes."""
    code = (
        "import numpy as np, ray, sys\n"
        "from sensai.cluster.ray_cluster import ray_cluster\n"
        "from sensai.training.backends.ray_tasks import _store_mapped_arrays\n"
        "np.save('images.npy', np.arange(10**6))\n"
        "mapped = np.load('images.npy', mmap_mode='r')\n"
        "with ray_cluster(sys.argv[1]):\n"
        "    _store_mapped_arrays()\n"
        "    first, second = ray.get(ray.put([mapped, mapped]))\n"
        "    assert first is second and not first.flags.owndata and not first.flags.writeable\n"
        "    assert (first == mapped).all()\n"
    )
    command = [sys.executable, "-c", code, cluster.address]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr


def test_no_cluster_is_said_at_once() -> None:
    with (
        pytest.raises(InputError, match=r"ray_address='127\.0\.0\.1:9': nothing answers there"),
        ray_cluster("127.0.0.1:9"),
    ):
        pass


def test_without_the_package_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"backend='ray': needs the package ray: pip install ray"), ray_cluster(""):
        pass


@pytest.mark.parametrize(
    ("cpus", "given", "expected"),
    [
        ([1, 1], {}, (2, 1)),
        ([4, 2], {"jobs": 2}, (2, 2)),
        ([4, 2], {"threads": 2}, (3, 2)),
        ([8, 8], {"members": 1}, (1, 8)),
        ([3, 0], {"jobs": 5}, (5, 1)),
        ([3, 3], {"gpu": True}, (2, 3)),
    ],
)
def test_workers_fill_the_nodes(cpus: list[int], given: dict, expected: tuple[int, int]) -> None:
    nodes = [Node("", each, 1) for each in cpus]
    assert share_nodes(nodes, **{"members": 10, "gpu": False} | given) == expected


@pytest.mark.parametrize(("threads", "gpu", "reason"), [(2, False, "2 CPUs"), (None, True, "1 CPUs and a GPU")])
def test_a_cluster_without_room_is_refused(threads: int | None, gpu: bool, reason: str) -> None:
    with pytest.raises(InputError, match=f"no node of the cluster has {reason}"):
        share_nodes([Node("", 1, 0)], 3, gpu, None, threads)
