"""What the processes that train one trainer tell each other. N images, K classes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Rendezvous:
    """How a process finds the others.

    Attributes:
        file: on storage that all of them see; not there yet, and of no use for another rendezvous.
        rank: number of this process.
        size: how many there are.
        loopback: all are on this machine, and nothing beyond it is listened to.
    """

    file: Path
    rank: int
    size: int
    loopback: bool


class ProcessGroup:
    """Sums and maxima over all processes of a rendezvous; each call waits for all of them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def all_reduce_sum(self, values: Tensor) -> None:
        """Put the sum over all processes in the place of each one's float32 (N, K), in place."""
        dist.all_reduce(values)

    def all_reduce_max(self, seconds: float) -> float:
        """The largest number of all, so that each decides by the same."""
        largest = torch.tensor(seconds, dtype=torch.float64, device=self._device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return float(largest)

    def any(self, flag: bool) -> bool:
        """Whether it holds for one of all, so that each decides by the same."""
        return self.all_reduce_max(float(flag)) > 0


@contextmanager
def rendezvous(place: Rendezvous, device: torch.device) -> Iterator[ProcessGroup]:
    """Wait for the others, and part when the block ends: those that still wait then get an error."""
    if place.loopback:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
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


def _backend(place: Rendezvous, device: torch.device) -> str:
    """NCCL where every process has a GPU of its own: it refuses processes that share one."""
    if device.type != "cuda":
        return "gloo"
    shared = place.loopback and place.size > torch.cuda.device_count()
    return "gloo" if shared else "nccl"
