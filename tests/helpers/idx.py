"""MNIST made by hand, in the format of its files."""

import struct
from pathlib import Path

import numpy as np


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write an array of bytes as MNIST's files hold it, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def write_mnist(folder: Path) -> None:
    """Write 60 images for training and 20 for test, each of the brightness of its label."""
    for prefix, count in (("train", 60), ("t10k", 20)):
        labels = np.arange(count) % 10
        images = np.broadcast_to(labels[:, None, None] * 20, (count, 28, 28))
        write_idx(folder / "raw" / f"{prefix}-images-idx3-ubyte", images)
        write_idx(folder / "raw" / f"{prefix}-labels-idx1-ubyte", labels)
