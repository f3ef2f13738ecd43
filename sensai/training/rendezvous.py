"""Sums and maxima over the processes that train members together. N images, K classes."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Rendezvous:
    """The place where processes find each other.

    Attributes:
        file: on storage that all of them see; it does not exist yet, and serves for one rendezvous only.
        rank: number of this process.
        size: number of processes.
        loopback: all are on this machine, so they listen to nothing beyond it.
    """

    file: Path
    rank: int
    size: int
    loopback: bool


class ProcessGroup:
    """All processes of a rendezvous; each call waits for all of them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def all_reduce_sum(self, values: Tensor) -> None:
        """Replace float32 (N, K) by the sum over all processes, in place."""
        dist.all_reduce(values)

    def all_reduce_max(self, seconds: float) -> float:
        """Return the largest number of all, so that all decide alike."""
        largest = torch.tensor(seconds, dtype=torch.float64, device=self._device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return float(largest)

    def any(self, flag: bool) -> bool:
        """Return whether it holds for at least one, so that all decide alike."""
        return self.all_reduce_max(float(flag)) > 0


@contextmanager
def rendezvous(place: Rendezvous, device: torch.device) -> Iterator[ProcessGroup]:
    """Wait for the other processes; leave them when the block ends, after which those that still wait get an error."""
    if place.loopback:
        os.environ["GLOO_SOCKET_IFNAME"] = _loopback_interface()
    place.file.parent.mkdir(parents=True, exist_ok=True)
    dist.init_process_group(
        _backend(place, device),
        init_method=place.file.absolute().as_uri(),
        rank=place.rank,
        world_size=place.size,
    )
    try:
        yield ProcessGroup(device)
    finally:
        dist.destroy_process_group()


def _loopback_interface() -> str:
    """Return the name of the loopback interface: `lo` on Linux, `lo0` on macOS."""
    return next(name for _, name in socket.if_nameindex() if name in ("lo", "lo0"))


def _backend(place: Rendezvous, device: torch.device) -> str:
    """Return NCCL where every process has a GPU of its own; it refuses processes that share one."""
    if device.type != "cuda":
        return "gloo"
    shared = place.loopback and place.size > torch.cuda.device_count()
    return "gloo" if shared else "nccl"
