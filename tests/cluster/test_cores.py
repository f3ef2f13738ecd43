"""Cores: every member is distributed once, workers end together, and libraries keep to their threads."""

from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from joblib import cpu_count
from threadpoolctl import threadpool_info

from sensai.cluster.cores import deal, pinned, share_cores


@given(
    st.lists(st.floats(0.1, 100), min_size=1, max_size=30),
    st.integers(1, 8),
)
def test_members_are_dealt_so_that_slots_end_together(costs: list[float], jobs: int) -> None:
    workers = deal(costs, jobs)
    assert sorted(number for worker in workers for number in worker) == list(range(len(costs)))
    assert len(workers) == min(jobs, len(costs))
    assert all(workers)
    loads = [sum(costs[number] for number in worker) for worker in workers]
    # Graham's bound for the longest first: at most 4/3 of the optimum, which is at least each of these two.
    best = max(sum(costs) / jobs, max(costs))
    assert max(loads) <= best + max(costs) * (1 - 1 / jobs) + 1e-9
    assert max(loads) - min(loads) <= max(costs) + 1e-9


def test_the_dearest_members_are_dealt_first() -> None:
    """In any other order, the worker that gets the most expensive member last ends late."""
    assert deal([1.0, 1.0, 2.0], 2) == [[2], [0, 1]]
    assert deal([3.0, 3.0, 2.0, 2.0, 2.0], 2) == [[0, 2, 4], [1, 3]]


@given(st.integers(1, 40))
def test_workers_fill_the_cores_and_no_more(members: int) -> None:
    jobs, threads = share_cores(members)
    assert jobs == min(members, cpu_count())
    assert cpu_count() - jobs < jobs * threads <= cpu_count()


@pytest.mark.parametrize(("jobs", "threads", "expected"), [(2, 5, (2, 5)), (9, 1, (3, 1)), (1, None, (1, cpu_count()))])
def test_workers_are_as_asked_for(jobs: int, threads: int | None, expected: tuple[int, int]) -> None:
    assert share_cores(3, jobs, threads) == expected


def test_every_library_is_pinned_until_the_block_ends() -> None:
    # The first call loads the library of matrix products.
    np.ones((2, 2)) @ np.ones((2, 2))
    before = threads()
    assert len(before) > 1
    with pinned(3):
        assert set(threads()) == {3}
    assert threads() == before


def test_threads_are_as_before_after_an_error() -> None:
    before = threads()
    with suppress(KeyError), pinned(3):
        raise KeyError
    assert threads() == before


def threads() -> list[int]:
    return [torch.get_num_threads(), *(library["num_threads"] for library in threadpool_info())]
