"""Describe the machine and the way of timing, which latencies must share to be compared. Imports torch only where it must."""

from pathlib import Path
from typing import TYPE_CHECKING

from sensai import evaluation
from sensai.config import EvaluateConfig
from sensai.evaluation.known_host import known_host

if TYPE_CHECKING:
    import torch

# Raised whenever a change in the way of timing gives the same members other times.
VERSION = 2


def timing_host(runtime: str, device: "torch.device", images: int = 1) -> dict[str, str]:
    """Return the machine and the way of timing.

    Args:
        runtime: the one asked for, or `auto`.
        device: its runtimes are tried.
        images: answered at once.
    """
    return _described(evaluation.host(), runtime, device.type, images)


def timing_host_of(config: EvaluateConfig) -> dict[str, str]:
    """Return the machine and the way of timing of an evaluation.

    Raises:
        InputError: a GPU that this machine does not have.
    """
    host = known_host(Path(config.work_dir) / "hosts")
    return _described(host, config.runtime, _device_type(config, host), config.latency_batch_size)


def _device_type(config: EvaluateConfig, host: dict[str, str]) -> str:
    if config.device == "auto":
        return "cpu" if host["accelerator"] == "none" else "cuda"
    if config.device == "cpu":
        return "cpu"
    from sensai.pipeline.devices import device_of

    return device_of(config).type


def _described(host: dict[str, str], runtime: str, device: str, images: int) -> dict[str, str]:
    return {**host, "timing": str(VERSION), "runtime": runtime, "device": device, "images": str(images)}
