"""What the processes that train one team tell each other. N images, K classes."""

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
class Meeting:
    """How a process finds the others.

    Attributes:
        file: on storage that all of them see; not there yet, and of no use for another meeting.
        rank: number of this process.
        size: how many there are.
        loopback: all are on this machine, and nothing beyond it is listened to.
    """

    file: Path
    rank: int
    size: int
    loopback: bool


class Exchange:
    """Sums and maxima over all processes of a meeting; each call waits for all of them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def add_up(self, values: Tensor) -> None:
        """Put the sum over all processes in the place of each one's float32 (N, K), in place."""
        dist.all_reduce(values)

    def longest(self, seconds: float) -> float:
        """The largest number of all, so that each decides by the same."""
        longest = torch.tensor(seconds, dtype=torch.float64, device=self._device)
        dist.all_reduce(longest, dist.ReduceOp.MAX)
        return float(longest)

    def any(self, flag: bool) -> bool:
        """Whether it holds for one of all, so that each decides by the same."""
        return self.longest(float(flag)) > 0


@contextmanager
def met(meeting: Meeting, device: torch.device) -> Iterator[Exchange]:
    """Wait for the others, and part when the block ends: those that still wait then get an error."""
    if meeting.loopback:
        os.environ["GLOO_SOCKET_IFNAME"] = _loopback_interface()
    meeting.file.parent.mkdir(parents=True, exist_ok=True)
    dist.init_process_group(
        _backend(meeting, device),
        init_method=meeting.file.absolute().as_uri(),
        rank=meeting.rank,
        world_size=meeting.size,
    )
    try:
        yield Exchange(device)
    finally:
        dist.destroy_process_group()


def _loopback_interface() -> str:
    """Return the name of the loopback interface: `lo` on Linux, `lo0` on macOS."""
    return next(name for _, name in socket.if_nameindex() if name in ("lo", "lo0"))


def _backend(meeting: Meeting, device: torch.device) -> str:
    """NCCL where every process has a GPU of its own: it refuses processes that share one."""
    if device.type != "cuda":
        return "gloo"
    shared = meeting.loopback and meeting.size > torch.cuda.device_count()
    return "gloo" if shared else "nccl"
