"""Choose the devices that a configuration names."""

import torch

from sensai.cluster.cores import share_cores
from sensai.config import RetrainConfig, StageConfig
from sensai.errors import InputError


def device_of(config: StageConfig) -> torch.device:
    """Return the device that the parameters name; `auto` is the GPU where there is one.

    Raises:
        InputError: a GPU that this machine does not have.
    """
    available = torch.cuda.device_count()
    if config.device == "auto":
        return torch.device("cuda" if available else "cpu")
    device = torch.device(config.device)
    if device.type == "cuda" and (device.index or 0) >= available:
        raise InputError(f"device={config.device!r}: this machine has {available} GPUs; auto or cpu always works")
    return device


def worker_devices(config: RetrainConfig, members: int) -> tuple[list[torch.device], int]:
    """Return the device of each worker that members are dealt to, and the threads that each worker computes with."""
    device = device_of(config)
    if device.type == "cpu":
        jobs, devices = config.jobs, [device]
    else:
        devices = (
            [torch.device("cuda", n) for n in range(torch.cuda.device_count())] if config.device == "auto" else [device]
        )
        jobs = config.jobs or len(devices)
    jobs, threads = share_cores(members, jobs, config.threads)
    return [devices[n % len(devices)] for n in range(jobs)], threads
