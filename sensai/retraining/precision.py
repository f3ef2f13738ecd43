"""What training is computed in: float32, or bfloat16 where that is faster."""

import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Literal

import torch
from torch import Tensor, nn

from sensai.retraining.captured import captured

Precision = Literal["fp32", "bf16"]

_STEPS = 5
# A gain that is no more than noise is not worth the digits.
_WORTH_IT = 1.1


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Compute the block in this precision; weights and their updates stay float32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def faster_precision(network: nn.Module, images: Tensor) -> tuple[Precision, float]:
    """The precision in which this network is trained faster here, by a short measurement; and how much faster bf16 is.

    CPUs without instructions for bfloat16 take longer with it.

    Args:
        network: in the layout that it is trained in; left as it is.
        images: float32 (N, C, H, W), a training batch, on the network's device and in its memory format.
    """
    seconds: dict[Precision, list[float]] = {"fp32": [], "bf16": []}
    # A capture is of one precision.
    trained = {each: captured(deepcopy(network), images.device).train() for each in seconds}
    # The first step of each pays for what libraries prepare; taken in turn, both meet the same disturbances.
    for step in range(1 + _STEPS):
        for precision, times in seconds.items():
            took = _step_seconds(trained[precision], images, precision)
            if step:
                times.append(took)
    gain = statistics.median(seconds["fp32"]) / statistics.median(seconds["bf16"])
    return ("bf16" if gain > _WORTH_IT else "fp32"), gain


def _step_seconds(network: nn.Module, images: Tensor, precision: Precision) -> float:
    start = time.perf_counter()
    with autocast(precision, images.device):
        loss = network(images).float().square().mean()
    loss.backward()
    network.zero_grad(set_to_none=True)
    # Reading a value waits for the GPU.
    float(loss.detach())
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - start
