"""Runtimes side by side: what the table says, and what is never chosen."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensai.ensemble import Ensemble
from sensai.errors import InputError
from sensai.runtimes import CANDIDATES, INT8, Prepared, Timing, fastest, measure, probabilities, quantised
from sensai.runtimes.onnx_runtimes import OnnxSessions
from sensai.runtimes.runtime import deal
from tests.runtimes.test_runtimes import raw


def test_all_candidates_are_timed_and_right(prepared: Prepared) -> None:
    timings = measure(prepared, raw(2), 2, repeats=2)
    assert [timing.runtime for timing in timings] == list(CANDIDATES)
    for timing in timings:
        assert (timing.threads, timing.why_not) == (2, "")
        assert 0 < timing.median_ms <= timing.p95_ms
        assert timing.error <= 1e-5
    assert fastest(timings).median_ms == min(timing.median_ms for timing in timings)


def test_the_table_names_what_is_missing(prepared: Prepared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    compiled, exact = measure(prepared, raw(1), 1, names=("torch-compiled", "torch"), repeats=1)
    assert math.isnan(compiled.median_ms)
    assert compiled.why_not == "no C++ compiler (g++ or clang++) is installed"
    assert fastest([compiled, exact]) is exact
    with pytest.raises(InputError, match="torch-compiled: no C"):
        fastest([compiled])


def test_integers_are_measured_but_never_chosen(prepared: Prepared) -> None:
    timings = measure(prepared, raw(1), 1, names=("onnx-sessions",), repeats=1, calibration=raw(8))
    assert [timing.runtime for timing in timings] == ["onnx-sessions", INT8]
    exact, integers = timings
    assert integers.error > 1e-5, "else it would be no other computation"
    quick = Timing(INT8, 1, exact.median_ms / 2, exact.p95_ms / 2, integers.error, integers.why_not)
    assert fastest([exact, quick]) is exact


def test_integers_answer_nearly_alike(irregular: Ensemble, prepared: Prepared) -> None:
    images = raw(64, seed=5)
    with OnnxSessions(prepared, 1) as exact, OnnxSessions(quantised(prepared, raw(32, seed=6)), 1) as integers:
        expected, answers = (probabilities(runtime(images), irregular) for runtime in (exact, integers))
    assert 0 < np.abs(answers - expected).max() < 0.1
    assert np.corrcoef(answers.ravel(), expected.ravel())[0, 1] > 0.95


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=12), st.integers(1, 5))
def test_members_are_dealt_once_and_evenly(costs: list[float], workers: int) -> None:
    hands = deal(costs, workers)
    assert sorted(job for hand in hands for job in hand) == list(range(len(costs)))
    assert len(hands) == min(workers, len(costs))
    assert all(hands)
    for hand in hands:
        assert [costs[job] for job in hand] == sorted((costs[job] for job in hand), reverse=True)
    loads = [sum(costs[job] for job in hand) for hand in hands]
    # Nobody could have handed its last job, the smallest it has, to another and be done earlier.
    last = costs[hands[loads.index(max(loads))][-1]]
    assert max(loads) - last <= min(loads) + 1e-9


def test_equal_members_fill_all_workers() -> None:
    assert sorted(map(len, deal([1.0] * 10, 4))) == [2, 2, 3, 3]
