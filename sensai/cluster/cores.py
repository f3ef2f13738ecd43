"""Cores: their distribution to workers, the members of each worker, and the threads of libraries."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from joblib import cpu_count
from threadpoolctl import threadpool_limits


def share_cores(members: int, jobs: int | None = None, threads: int | None = None) -> tuple[int, int]:
    """Return the number of workers, at most one a member, and the threads of each.

    By default (None) there is one worker a core, and the cores are shared equally.
    """
    jobs = min(jobs or cpu_count(), members)
    return jobs, threads or max(cpu_count() // jobs, 1)


def deal(costs: Sequence[float], jobs: int) -> list[list[int]]:
    """Distribute members so that workers end together.

    The most expensive members come first, each to the least loaded worker (Graham 1969).

    Args:
        costs: cost of each member, in any unit.
        jobs: number of workers.

    Returns:
        The numbers of each worker's members, sorted; at most `jobs` lists, none of them empty.
    """
    slots: list[list[int]] = [[] for _ in range(min(jobs, len(costs)))]
    for member in sorted(range(len(costs)), key=lambda number: -costs[number]):
        min(slots, key=lambda slot: (sum(costs[number] for number in slot), len(slot))).append(member)
    return [sorted(slot) for slot in slots]


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Limit every library to so many threads within the block, and restore the number after it."""
    # Servers distribute members too, but do not load torch for it, which takes two seconds.
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)
