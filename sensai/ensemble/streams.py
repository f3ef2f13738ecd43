"""Run members at the same time on one GPU, since small networks leave most of it idle."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor


def side_by_side(networks: Sequence[Callable[[Tensor], Tensor]], images: Tensor) -> list[Tensor]:
    """Return the output of each network for images (N, C, H, W); on a GPU each computes on a stream of its own.

    Backward passes use the streams of the forward passes, and a CUDA graph captures them as branches.
    """
    if not images.is_cuda:
        return [network(images) for network in networks]
    current, streams = torch.cuda.current_stream(images.device), _streams(images.device, len(networks))
    outputs = []
    for network, stream in zip(networks, streams, strict=True):
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            outputs.append(network(images))
    for stream, output in zip(streams, outputs, strict=True):
        current.wait_stream(stream)
        # Its memory belongs to the stream that computed it, which must not reuse it while this stream reads.
        output.record_stream(current)
    return outputs


@lru_cache(maxsize=8)
def _streams(device: torch.device, count: int) -> list[torch.cuda.Stream]:
    # Every call uses the same streams, because memory that a stream has used returns only to it.
    return [torch.cuda.Stream(device) for _ in range(count)]
