"""Comparison of runtimes: the contents of the table, and runtimes that are never chosen."""

import math
import time
from dataclasses import replace
from functools import partial
from itertools import groupby, product
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from sensai.ensemble import Ensemble
from sensai.ensemble.calibration import RAW
from sensai.errors import InputError
from sensai.runtimes import RUNTIMES, Prepared, candidates, fastest, in_turn, measure, prepare, quantised
from sensai.runtimes.implementations.onnx_sessions import OnnxSessions
from tests.runtimes.test_runtimes import raw


def test_all_candidates_are_timed_and_right(prepared: Prepared) -> None:
    timings = measure(prepared, raw(2), [1, 2], repeats=2)
    assert [(timing.threads, timing.runtime) for timing in timings] == list(product([1, 2], candidates("cpu")))
    for timing in timings:
        assert timing.why_not == ""
        assert 0 < timing.median_ms <= timing.p95_ms
        assert timing.error <= 1e-5
    assert fastest(timings).median_ms == min(timing.median_ms for timing in timings)


def test_auto_tries_what_declares_it_on_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RUNTIMES, "_parts", {name: RUNTIMES[name] for name in RUNTIMES})
    before = {device: candidates(device) for device in ("cpu", "cuda")}
    assert "torch-compiled" not in before["cpu"]
    for name, traits in {"named": {}, "tried": {"auto": True}, "there": {"auto": True, "device": "cuda"}}.items():
        RUNTIMES.register(name, "of this test", **traits)(lambda prepared, threads: None)
    assert set(candidates("cpu")) - set(before["cpu"]) == {"tried"}
    assert set(candidates("cuda")) - set(before["cuda"]) == {"there"}


@pytest.mark.parametrize(("seconds", "calls"), [(0, 5), (0.02, 2)])
def test_calls_settle_by_themselves_before_one_is_timed(seconds: float, calls: int) -> None:
    came: list[str] = []

    def call(name: str) -> None:
        came.append(name)
        time.sleep(seconds)

    taken = in_turn({name: partial(call, name) for name in "ab"}, 2)
    turns = [(name, len(list(each))) for name, each in groupby(came)]
    # Three turns warm up. A short call may be held up by others on the machine, and settles sooner then.
    assert [name for name, _ in turns] == [*"ab"] * (3 + 2)
    assert max(length for _, length in turns) == calls
    assert {name: len(each) for name, each in taken.items()} == {"a": 2, "b": 2}
    assert min(each.min() for each in taken.values()) >= seconds


def test_the_table_names_what_is_missing(prepared: Prepared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    compiled, exact = measure(prepared, raw(1), [1], names=("torch-compiled", "torch"), repeats=1)
    assert math.isnan(compiled.median_ms)
    assert compiled.why_not == "no C++ compiler (g++ or clang++) is installed"
    assert fastest([compiled, exact]) is exact
    with pytest.raises(InputError, match="torch-compiled: no C"):
        fastest([compiled])


def test_answers_that_differ_are_never_chosen(irregular: Ensemble) -> None:
    prepared = prepare(irregular)
    weights = prepared.members[0].onnx.graph.initializer[0]
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) + 1, weights.name))
    exact, wrong = measure(prepared, raw(1), [1], names=("torch", "onnx-sessions"), repeats=1)
    assert wrong.why_not.startswith("its answers differ by ")
    assert fastest([replace(exact, median_ms=wrong.median_ms * 2), wrong]).runtime == "torch"
    with pytest.raises(InputError, match="onnx-sessions: its answers differ by "):
        fastest([wrong])


@pytest.mark.parametrize(("name", "shape"), [("irregular", (8, 8, 1)), ("without_blocks", (9, 9, 2))])
def test_integers_answer_nearly_alike(name: str, shape: tuple[int, int, int], request: pytest.FixtureRequest) -> None:
    ensemble: Ensemble = request.getfixturevalue(name)
    prepared, images = prepare(ensemble), raw(64, seed=5, shape=shape)
    integers = quantised(prepared, raw(32, seed=6, shape=shape))
    with OnnxSessions(prepared, 1) as exact, OnnxSessions(integers, 1) as rounded:
        expected, answers = (RAW(runtime(images), ensemble.groups) for runtime in (exact, rounded))
    assert 0 < np.abs(answers - expected).max() < 0.1
    assert np.corrcoef(answers.ravel(), expected.ravel())[0, 1] > 0.95
