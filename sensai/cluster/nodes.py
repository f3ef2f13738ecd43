"""The number of workers that fit on the machines of a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

from sensai.errors import InputError


@dataclass(frozen=True)
class Node:
    """A machine of a cluster, as reported by itself.

    Attributes:
        host: its address.
        cpus: number that tasks may use.
        gpus: likewise.
    """

    host: str
    cpus: int
    gpus: int


def room(nodes: Sequence[Node], threads: int, gpu: bool) -> int:
    """Return the number of workers that fit at once, each with so many CPUs of one node, and a GPU of it if `gpu` is set."""
    return sum(min(node.cpus // threads, node.gpus if gpu else node.cpus) for node in nodes)


def share_nodes(
    nodes: Sequence[Node], members: int, gpu: bool, jobs: int | None = None, threads: int | None = None
) -> tuple[int, int]:
    """Return the number of workers, at most one a member, and the threads of each.

    Args:
        nodes: of the cluster.
        members: number of members.
        gpu: each worker needs one.
        jobs: number of workers; None: as many as fit.
        threads: of each; None: as many as leave room for the workers.

    Raises:
        InputError: no worker fits.
    """
    if not room(nodes, threads or 1, gpu):
        raise InputError(f"backend='ray': no node of the cluster has {threads or 1} CPUs{' and a GPU' if gpu else ''}")
    jobs = min(jobs or room(nodes, threads or 1, gpu), members)
    fitting = [n for n in range(1, max(node.cpus for node in nodes) + 1) if room(nodes, n, gpu) >= jobs]
    return jobs, threads or max(fitting, default=1)
