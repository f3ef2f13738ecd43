"""Cores: how they are shared out, what each works on, and how many a library takes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from joblib import cpu_count
from threadpoolctl import threadpool_limits


def share_cores(members: int, jobs: int | None = None, threads: int | None = None) -> tuple[int, int]:
    """How many workers, no more than there are members, and the threads of each; None: one a core, and the cores dealt out."""
    jobs = min(jobs or cpu_count(), members)
    return jobs, threads or max(cpu_count() // jobs, 1)


def deal(costs: Sequence[float], jobs: int) -> list[list[int]]:
    """Members to workers so that workers end together: the dearest first, each to the worker with least (Graham 1969).

    Args:
        costs: what each member takes, in any unit.
        jobs: number of workers.

    Returns:
        The numbers of each worker's members, sorted; at most `jobs` lists, none of them empty.
    """
    workers: list[list[int]] = [[] for _ in range(min(jobs, len(costs)))]
    for member in sorted(range(len(costs)), key=lambda number: -costs[number]):
        min(workers, key=lambda worker: (sum(costs[number] for number in worker), len(worker))).append(member)
    return [sorted(worker) for worker in workers]


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Every library computes with so many threads, as before when the block ends."""
    # Servers deal members out too, and load no torch for it: it takes two seconds.
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)
