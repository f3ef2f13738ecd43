"""Comparison of base model and ensemble: each in its fastest runtime, every member timed, the outputs combined."""

from itertools import groupby

import numpy as np
import pytest

from sensai.ensemble import Ensemble
from sensai.ensemble.calibration import RAW
from sensai.runtimes import Comparison, Prepared, compare, fastest, latency_comparison, prepare_base
from sensai.runtimes.runtime import Runtime
from tests.helpers.networks import make
from tests.runtimes.test_runtimes import raw

NAMES = ("torch", "onnx-sessions")


def test_each_network_runs_in_the_fastest_of_its_runtimes_and_outputs_are_combined(
    irregular: Ensemble, prepared: Prepared
) -> None:
    base = prepare_base(make("small_cnn", seed=3)[0], irregular)
    answers: list[np.ndarray] = []

    def combine(outputs: list[np.ndarray]) -> None:
        answers.append(RAW(outputs, irregular.groups))

    compared = compare(base, prepared, raw(2), combine, 2, names=NAMES, repeats=3)
    assert {network: [(each.runtime, each.threads) for each in rows] for network, rows in compared.timings.items()} == {
        "base": [(name, threads) for threads in (1, 2) for name in NAMES],
        "ensemble": [(name, threads) for threads in (1, 2) for name in NAMES],
        "member": [(name, threads) for threads in (1, 2) for name in NAMES],
    }
    assert compared.chosen == {network: fastest(rows) for network, rows in compared.timings.items()}
    assert len(compared.member_ms) == len(irregular.members)
    assert min(compared.base_ms, compared.members_ms, compared.ensemble_ms, *compared.member_ms) > 0
    expected = RAW([member.eager(prepared.normalised(raw(2))) for member in prepared.members], irregular.groups)
    # A repeat and a warm-up settle for up to four calls, and time one.
    assert 2 * (3 + 3) <= len(answers) <= 5 * (3 + 3)
    for answer in answers:
        np.testing.assert_allclose(answer, expected, atol=1e-5)
    assert [(row["network"], row["median_ms"]) for row in compared.rows()] == [
        (network, each.median_ms) for network, rows in compared.timings.items() for each in rows
    ]


def test_members_are_timed_by_themselves_and_one_after_another(
    irregular: Ensemble, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Runtime] = []
    call = Runtime.__call__

    def noted(self: Runtime, images: np.ndarray) -> list[np.ndarray]:
        called.append(self)
        return call(self, images)

    monkeypatch.setattr(Runtime, "__call__", noted)
    base = prepare_base(make("small_cnn", seed=3)[0], irregular)
    compare(base, prepared, raw(1), lambda outputs: None, 1, names=("torch",), repeats=2)
    count = len(prepared.members)
    members = list(dict.fromkeys(called))[-count:]
    groups = [
        (number, len(list(calls)))
        for number, calls in groupby(members.index(runtime) for runtime in called if runtime in members)
    ]
    in_a_row = [number for number, length in groups if length == 1]
    by_itself = [number for number, length in groups if length > 1]
    # In a repeat and in a warm-up each settles and is timed before the next one comes, and so does the row of all.
    assert by_itself == [*range(count)] * (2 + 3)
    assert in_a_row == [*range(count)] * (len(in_a_row) // count)
    assert len(in_a_row) >= 2 * (2 + 3) * count


def test_many_members_are_timed_on_one_thread(
    irregular: Ensemble, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency_comparison, "_MOST_THREADS", 2 * len(prepared.members) - 1)
    base = prepare_base(make("small_cnn", seed=3)[0], irregular)
    compared = compare(base, prepared, raw(1), None, 2, names=("torch",), repeats=1)
    assert [each.threads for each in compared.timings["base"]] == [1, 2]
    assert [each.threads for each in compared.timings["member"]] == [1]


def test_the_ensemble_as_a_whole_may_be_left_out(irregular: Ensemble, prepared: Prepared) -> None:
    base = prepare_base(make("small_cnn", seed=3)[0], irregular)
    compared = compare(base, prepared, raw(1), None, 1, names=("torch",), repeats=2)
    assert set(compared.timings) == {"base", "member"}
    assert len(compared.member_ms) == len(irregular.members)
    assert min(compared.base_ms, *compared.member_ms) > 0
    assert np.isnan([compared.ensemble_ms, compared.members_ms, compared.overhead]).all()


@pytest.mark.parametrize(("threads", "expected"), [(1, 12 / 10), (2, 24 / 10), (4, 36 / 10)])
def test_overhead_is_over_members_dealt_out_without_a_gap(threads: int, expected: float) -> None:
    compared = Comparison(
        {}, base_ms=50.0, member_ms=[2.0, 2.5, 4.0], members_ms=10.0, ensemble_ms=12.0, threads=threads
    )
    assert compared.overhead == pytest.approx(expected)
