"""Sizes of networks, and the host that timings depend on."""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version

import torch
from torch import nn

from sensai.sites import count_flops, count_params


@dataclass(frozen=True)
class Size:
    """The size of a network: trained values, 2 x multiply-accumulates at batch 1, bytes of its parameters."""

    params: int
    flops: int
    bytes: int


def size(network: nn.Module, input_shape: tuple[int, int, int]) -> Size:
    """Return the size of a network for one image of shape (C, H, W)."""
    parameter_bytes = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    return Size(count_params(network), count_flops(network, input_shape), parameter_bytes)


def host() -> dict[str, str]:
    """Return what timings depend on: processor, cores, accelerator, and the libraries that compute."""
    return {
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch": torch.__version__,
        "onnxruntime": version("onnxruntime"),
    }
