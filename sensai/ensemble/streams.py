"""Members side by side on one GPU: small networks leave most of it idle, so that it can compute several at once."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor


def side_by_side(networks: Sequence[Callable[[Tensor], Tensor]], images: Tensor) -> list[Tensor]:
    """What each network answers to images (N, C, H, W); where these lie on a GPU, each computes on a stream of its own.

    Backward passes take the streams of the forward passes, and a capture as a CUDA graph keeps them as branches.
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
        # Its memory belongs to the stream it was computed on, which must not take it back while this one reads.
        output.record_stream(current)
    return outputs


@lru_cache(maxsize=8)
def _streams(device: torch.device, count: int) -> list[torch.cuda.Stream]:
    # The same ones at every call: memory that a stream has used goes back to it alone.
    return [torch.cuda.Stream(device) for _ in range(count)]
