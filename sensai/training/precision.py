"""The precision of training: float32, or bfloat16 where that is faster."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sensai.training.captured import captured

Precision = Literal["fp32", "bf16"]

# A gain within the noise does not justify fewer digits.
_MARGIN = 1.2
# Other programs can only lengthen a step. So the shortest time counts, once it has occurred several times.
_MEETINGS = 3
_ALIKE = 1.05
_FEWEST_ROUNDS = 5
_MOST_ROUNDS = 40
_MOST_SECONDS = 60.0


@dataclass(frozen=True)
class Choice:
    """The precision of a training, and the measurement behind it.

    Attributes:
        precision: that was chosen.
        fp32_ms: the shortest training step in float32.
        bf16_ms: likewise in bfloat16.
        rounds: number of measurements of each.
        settled: the shortest times occurred several times; else the machine may be busy, and fp32 is chosen.
    """

    precision: Precision
    fp32_ms: float
    bf16_ms: float
    rounds: int
    settled: bool

    @property
    def gain(self) -> float:
        """Return the speedup of a step in bfloat16 over float32."""
        return self.fp32_ms / self.bf16_ms

    def __str__(self) -> str:
        measured = f"a training step takes {self.fp32_ms:.3g} ms in fp32 and {self.bf16_ms:.3g} ms in bf16"
        rule = (
            f"bf16 from {_MARGIN:g} times as fast" if self.settled else "no time occurred often enough: busy machine?"
        )
        return f"{self.precision} ({measured}, {self.gain:.2f} times as fast, {self.rounds} rounds; {rule})"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Compute the block in this precision; weights and their updates stay float32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def faster_precision(network: nn.Module, images: Tensor) -> Choice:
    """Return the precision in which this network is trained faster here, by a short measurement.

    CPUs without instructions for bfloat16 take longer with it. Both are measured in turn until the shortest time of each has
    occurred three times, so that other work on the machine does not decide. Where it never does, float32 is chosen.

    Args:
        network: in the memory format of the training; it is not changed.
        images: float32 (N, C, H, W), a training batch, on the network's device and in its memory format.
    """
    # Each capture holds one precision.
    trained = {each: captured(deepcopy(network), images.device).train() for each in get_args(Precision)}
    # Libraries prepare themselves during the first step of each.
    for precision, model in trained.items():
        _step_seconds(model, images, precision)
    seconds: dict[Precision, list[float]] = {each: [] for each in trained}
    start = time.perf_counter()
    while True:
        for precision, times in seconds.items():
            times.append(_step_seconds(trained[precision], images, precision))
        choice = chosen(seconds["fp32"], seconds["bf16"])
        enough = choice.rounds >= _FEWEST_ROUNDS and choice.settled
        if enough or choice.rounds == _MOST_ROUNDS or time.perf_counter() - start > _MOST_SECONDS:
            return choice


def chosen(fp32: Sequence[float], bf16: Sequence[float]) -> Choice:
    """Return the choice that the seconds of steps in float32 and in bfloat16, measured in turn, support."""
    settled = _settled(fp32) and _settled(bf16)
    faster = min(fp32) > _MARGIN * min(bf16)
    return Choice("bf16" if settled and faster else "fp32", 1e3 * min(fp32), 1e3 * min(bf16), len(fp32), settled)


def _settled(seconds: Sequence[float]) -> bool:
    return sum(each <= _ALIKE * min(seconds) for each in seconds) >= _MEETINGS


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
