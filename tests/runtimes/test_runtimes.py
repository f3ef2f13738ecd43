"""Every runtime gives the outputs of the members in memory, and ends the processes that it started."""

import re
import threading
import time

import numpy as np
import psutil
import pytest
import torch

from sensai.ensemble import Ensemble
from sensai.ensemble.calibration import RAW
from sensai.errors import InputError
from sensai.runtimes import RUNTIMES, Prepared, candidates, open_runtime, prepare, prepare_base
from sensai.runtimes.implementations import why_missing
from sensai.runtimes.implementations.onnx_graph import OnnxGraph
from sensai.runtimes.implementations.onnx_sessions import OnnxSessions
from tests.helpers.networks import assert_same, make, snapshot


def raw(count: int, seed: int = 0, shape: tuple[int, int, int] = (8, 8, 1)) -> np.ndarray:
    """uint8 (N, H, W, C)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def normalised(ensemble: Ensemble, images: np.ndarray) -> torch.Tensor:
    return ensemble.normalization(torch.from_numpy(images.transpose(0, 3, 1, 2)))


# Those that `auto` leaves out take long to open, for each member and each number of images.
EVERY = [pytest.param(name, marks=[] if RUNTIMES[name].traits["auto"] else pytest.mark.long) for name in RUNTIMES]


@pytest.mark.parametrize("name", EVERY)
def test_every_runtime_keeps_the_protocol(name: str, request: pytest.FixtureRequest) -> None:
    traits = RUNTIMES[name].traits
    assert traits["device"] in {"cpu", "cuda"}
    ensemble: Ensemble = request.getfixturevalue("irregular" if traits["auto"] else "without_blocks")
    prepared = request.getfixturevalue("prepared") if traits["auto"] else prepare(ensemble)
    _, height, width = ensemble.spec.input_shape
    shape = (height, width, ensemble.spec.in_channels)
    if why := why_missing(name):
        with pytest.raises(InputError, match=f"runtime='{name}': {re.escape(why)}"):
            open_runtime(name, prepared, 1)
        pytest.skip(why)
    with open_runtime(name, prepared, 1) as runtime, torch.no_grad():
        # A shape that comes again after another, and other images of the same shape.
        for seed, count in enumerate((1, 3, 1, 1) if traits["auto"] else (2, 2)):
            images = raw(count, seed, shape)
            before = images.copy()
            expected = ensemble.member_logits(normalised(ensemble, images))
            outputs = runtime(images)
            assert np.array_equal(images, before)
            assert {output.dtype for output in outputs} == {np.dtype(np.float32)}
            for output, logits in zip(outputs, expected, strict=True):
                np.testing.assert_allclose(output, logits.numpy(), atol=1e-5)
        with pytest.raises(ValueError, match=r"uint8.*not float32"):
            runtime(raw(1, 0, shape).astype(np.float32))
    with pytest.raises(RuntimeError, match="closed"):
        runtime(raw(1))


@pytest.mark.parametrize("name", candidates("cpu"))
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_answers_are_those_of_the_members_in_memory(
    name: str, threads: int, irregular: Ensemble, prepared: Prepared
) -> None:
    with open_runtime(name, prepared, threads) as runtime, torch.no_grad():
        for count in (1, 3):
            images = raw(count, seed=count)
            expected = irregular.member_logits(normalised(irregular, images))
            outputs = runtime(images)
            assert [output.dtype for output in outputs] == [np.float32] * 4
            assert [output.shape for output in outputs] == [(count, 1), (count, 4), (count, 3), (count, 5)]
            for output, logits in zip(outputs, expected, strict=True):
                np.testing.assert_allclose(output, logits.numpy(), atol=1e-5)
            np.testing.assert_allclose(
                RAW(outputs, irregular.groups), irregular(normalised(irregular, images)).numpy(), atol=1e-5
            )


def test_a_base_model_runs_as_the_ensemble_of_one_that_it_is(irregular: Ensemble) -> None:
    model, _ = make("small_cnn", seed=3)
    before = snapshot(model)
    with open_runtime("torch", prepare_base(model, irregular), 1) as runtime, torch.no_grad():
        (output,) = runtime(raw(2))
        np.testing.assert_allclose(output, model(normalised(irregular, raw(2))).numpy(), atol=1e-5)
    assert_same(model, before)


# torch's threads are the process's own.
@pytest.mark.parametrize("name", [name for name in candidates("cpu") if name.startswith("onnx")])
def test_threads_end_with_the_runtime(name: str, prepared: Prepared) -> None:
    process = psutil.Process()
    assert prepared.members[0].onnx, "exported: the exporter leaves a thread of its own behind"
    # Those of a served model that an earlier test of this process loaded live as long as it does.
    threads, before = set(threading.enumerate()), process.num_threads()
    with open_runtime(name, prepared, 3) as runtime:
        runtime(raw(1))
        assert process.num_threads() > before
    # The kernel still counts a thread for a moment after it was joined.
    deadline = time.monotonic() + 5
    while process.num_threads() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.num_threads() == before
    assert set(threading.enumerate()) <= threads


@pytest.mark.parametrize("kind", [OnnxGraph, OnnxSessions])
def test_an_error_of_one_member_is_the_callers(kind: type[OnnxSessions], prepared: Prepared) -> None:
    with kind(prepared, 2) as runtime, pytest.raises(Exception, match=r"(?i)invalid|dimension"):
        runtime(np.zeros((1, 8, 8, 3), np.uint8))


def test_an_unknown_runtime_is_refused(prepared: Prepared) -> None:
    with pytest.raises(InputError, match="runtime='tensorrt': is no runtime; allowed are cuda-graph, "):
        open_runtime("tensorrt", prepared, 1)
