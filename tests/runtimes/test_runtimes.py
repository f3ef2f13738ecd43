"""Every runtime gives the outputs of the members in memory, and ends the processes that it started."""

import threading
import time

import numpy as np
import psutil
import pytest
import torch

from sensai.ensemble import Ensemble
from sensai.ensemble.calibration import RAW
from sensai.errors import InputError
from sensai.runtimes import CANDIDATES, GPU_CANDIDATES, Prepared, open_runtime, prepare, prepare_base
from sensai.runtimes.onnx_runtimes import OnnxGraph, OnnxSessions
from tests.helpers.networks import assert_same, make, snapshot


def raw(count: int, seed: int = 0, shape: tuple[int, int, int] = (8, 8, 1)) -> np.ndarray:
    """uint8 (N, H, W, C)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def normalised(ensemble: Ensemble, images: np.ndarray) -> torch.Tensor:
    return ensemble.normalization(torch.from_numpy(images.transpose(0, 3, 1, 2)))


@pytest.mark.parametrize("name", CANDIDATES)
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


@pytest.mark.processes
def test_a_compiled_member_answers_alike_also_without_some_of_its_blocks(without_blocks: Ensemble) -> None:
    images = raw(2, shape=(9, 9, 2))
    with open_runtime("torch-compiled", prepare(without_blocks), 1) as runtime, torch.no_grad():
        (output,) = runtime(images)
        (expected,) = without_blocks.member_logits(normalised(without_blocks, images))
    np.testing.assert_allclose(output, expected.numpy(), atol=1e-5)


def test_a_base_model_runs_as_the_ensemble_of_one_that_it_is(irregular: Ensemble) -> None:
    model, _ = make("small_cnn", seed=3)
    before = snapshot(model)
    with open_runtime("torch", prepare_base(model, irregular), 1) as runtime, torch.no_grad():
        (output,) = runtime(raw(2))
        np.testing.assert_allclose(output, model(normalised(irregular, raw(2))).numpy(), atol=1e-5)
    assert_same(model, before)


# torch's threads are the process's own.
@pytest.mark.parametrize("name", [name for name in CANDIDATES if name.startswith("onnx")])
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
    with pytest.raises(RuntimeError, match="closed"):
        runtime(raw(1))


@pytest.mark.parametrize("kind", [OnnxGraph, OnnxSessions])
def test_an_error_of_one_member_is_the_callers(kind: type[OnnxSessions], prepared: Prepared) -> None:
    with kind(prepared, 2) as runtime, pytest.raises(Exception, match=r"(?i)invalid|dimension"):
        runtime(np.zeros((1, 8, 8, 3), np.uint8))


@pytest.mark.parametrize("name", CANDIDATES)
def test_images_that_are_not_raw_are_refused(name: str, prepared: Prepared) -> None:
    with open_runtime(name, prepared, 1) as runtime, pytest.raises(ValueError, match=r"uint8.*not float32"):
        runtime(raw(1).astype(np.float32))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", GPU_CANDIDATES)
def test_a_gpu_answers_as_the_members_in_memory(name: str, irregular: Ensemble, prepared: Prepared) -> None:
    with open_runtime(name, prepared, 1) as runtime, torch.no_grad():
        # A shape that comes again after another, and other images of the same shape.
        for seed, count in enumerate((1, 3, 1, 1)):
            images = raw(count, seed)
            expected = irregular.member_logits(normalised(irregular, images))
            for output, logits in zip(runtime(images), expected, strict=True):
                np.testing.assert_allclose(output, logits.numpy(), atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", GPU_CANDIDATES)
def test_without_a_gpu_its_runtimes_are_refused(name: str, prepared: Prepared) -> None:
    with pytest.raises(InputError, match=f"runtime='{name}': this machine has no GPU"):
        open_runtime(name, prepared, 1)


def test_an_unknown_runtime_is_refused(prepared: Prepared) -> None:
    with pytest.raises(InputError, match="runtime='tensorrt': is none of torch, "):
        open_runtime("tensorrt", prepared, 1)
