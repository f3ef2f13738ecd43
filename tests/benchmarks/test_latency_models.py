"""The models of latency are exact for data that follow them, and never better than the slowest member."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.latency_models import EnsembleModel, NetworkModel, break_even, makespan

milliseconds = st.floats(0.01, 100)


@given(milliseconds, milliseconds, st.integers(2, 6))
def test_a_network_that_follows_the_law_is_found(serial: float, parallel: float, cores: int) -> None:
    model = NetworkModel.fitted({count: serial + parallel / count for count in range(1, cores + 1)})
    assert model(1) == pytest.approx(serial + parallel, rel=1e-6)
    assert model(64) == pytest.approx(serial + parallel / 64, rel=1e-6)


def test_a_network_that_gets_slower_with_threads_is_no_faster_with_more() -> None:
    model = NetworkModel.fitted({1: 10.0, 2: 14.0})
    assert model(1) == model(100) == pytest.approx(12)


@given(st.lists(milliseconds, min_size=1, max_size=6), st.integers(1, 3))
def test_members_are_dealt_nearly_as_well_as_can_be(member_ms: list[float], workers: int) -> None:
    best = min(
        max(sum(ms for ms, own in zip(member_ms, owners, strict=True) if own == worker) for worker in range(workers))
        for owners in itertools.product(range(workers), repeat=len(member_ms))
    )
    # The bound of dealing the dearest first (Graham 1969).
    assert best - 1e-9 <= makespan(member_ms, workers) <= (4 / 3) * best + 1e-9


def test_more_workers_than_members_wait_for_the_slowest() -> None:
    assert makespan([2.0, 5.0, 3.0], 3) == makespan([2.0, 5.0, 3.0], 50) == 5.0
    assert makespan([2.0, 5.0, 3.0], 1) == 10.0


def test_what_the_ensemble_takes_beyond_its_members_is_overhead_and_machines_add_the_way_there() -> None:
    model = EnsembleModel.fitted([2.0, 5.0, 3.0], {1: 10.5, 2: 5.7, 3: 5.6})
    assert model.overhead_ms == pytest.approx(0.6)
    assert model(3) == pytest.approx(5.6)
    assert model(3, hop_ms=2.0) == pytest.approx(7.6)
    assert EnsembleModel.fitted([2.0], {1: 1.9}).overhead_ms == 0


@pytest.mark.parametrize(
    ("one", "expected"),
    [([5, 4, 3, 2], 1), ([9, 9, 3, 2], 3), ([9, 4, 9, 2], 4), ([9, 9, 9, 9], None), ([1, 1, 1, 9], None)],
)
def test_break_even_is_where_it_stays_faster(one: list[float], expected: int | None) -> None:
    assert break_even(lambda cores: one[cores - 1], lambda cores: 8 - cores * 0.5, 4) == expected
