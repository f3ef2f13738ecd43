"""How many workers the machines of a cluster have room for."""

from collections.abc import Sequence
from dataclasses import dataclass

from sensai.errors import InputError


@dataclass(frozen=True)
class Node:
    """A machine of a cluster, as it announced itself.

    Attributes:
        host: its address.
        cpus: that tasks may take.
        gpus: likewise.
    """

    host: str
    cpus: int
    gpus: int


def room(nodes: Sequence[Node], threads: int, gpu: bool) -> int:
    """How many workers fit at once, each with so many CPUs of one node, and one of its GPUs where it needs one."""
    return sum(min(node.cpus // threads, node.gpus if gpu else node.cpus) for node in nodes)


def share_nodes(
    nodes: Sequence[Node], members: int, gpu: bool, jobs: int | None = None, threads: int | None = None
) -> tuple[int, int]:
    """How many workers, no more than there are members, and the threads of each.

    Args:
        nodes: of the cluster.
        members: that are dealt out.
        gpu: each worker needs one.
        jobs: as many workers; None: as many as there is room for.
        threads: of each; None: as many as leave room for the workers.

    Raises:
        InputError: there is room for none.
    """
    if not room(nodes, threads or 1, gpu):
        raise InputError(f"backend='ray': no node of the cluster has {threads or 1} CPUs{' and a GPU' if gpu else ''}")
    jobs = min(jobs or room(nodes, threads or 1, gpu), members)
    fitting = [n for n in range(1, max(node.cpus for node in nodes) + 1) if room(nodes, n, gpu) >= jobs]
    return jobs, threads or max(fitting, default=1)
