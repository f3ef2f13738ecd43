"""Scale single images exactly as torch scales those of a training set (bilinear, antialiased), without importing torch.

Images are uint8 (N, C, h, w). Rows and columns are scaled one after the other in fixed-point numbers, so the values are equal
bit by bit. torch is several times faster where there are many images.
"""

import numpy as np

# Weights are 16-bit integers, as precise as the largest of an image's allows.
_LARGEST_WEIGHT = 2**15
_MOST_BITS = 22


def scaled(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return images uint8 (N, C, h, w) in another height and width."""
    for axis in (3, 2):
        if images.shape[axis] != size[axis - 2]:
            images = _along(images, axis, size[axis - 2])
    return np.ascontiguousarray(images)


def _along(images: np.ndarray, axis: int, target: int) -> np.ndarray:
    """Return the images with another length of one axis."""
    # With this axis first, whole blocks of memory are weighted.
    lines = np.ascontiguousarray(np.moveaxis(images, axis, 0))
    positions, weights, bits = _weights(len(lines), target)
    sums = np.full((target, *lines.shape[1:]), 1 << (bits - 1), np.int32)
    for taps, own in zip(positions.T, weights.T, strict=True):
        sums += lines[taps] * own[:, None, None, None]
    return np.moveaxis((sums >> bits).clip(0, 255).astype(np.uint8), 0, axis)


def _weights(source: int, target: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the pixels that each pixel of the result is made of, their weights, int32 (target, T) both, and their bits.

    The weights fall linearly from the centre, over two pixels of the coarser side (a triangle filter).
    """
    scale = source / target
    support = max(scale, 1.0)
    centres = scale * (np.arange(target) + 0.5)
    first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    counts = np.minimum((centres + support + 0.5).astype(np.int64), source) - first
    taps = np.arange(counts.max())
    distances = np.abs((taps + first[:, None] - centres[:, None] + 0.5) / support)
    exact = np.where((taps < counts[:, None]) & (distances < 1), 1 - distances, 0)
    exact /= exact.sum(1, keepdims=True)
    bits = next(
        (bits for bits in range(_MOST_BITS) if int(0.5 + exact.max() * (1 << (bits + 1))) >= _LARGEST_WEIGHT),
        _MOST_BITS,
    )
    weights = (exact * (1 << bits) + 0.5).astype(np.int32)
    positions = np.minimum(taps + first[:, None], source - 1)
    return positions, weights, bits
