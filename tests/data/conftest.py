"""Hand-made files of data sets, and no way to download any."""

import struct
from pathlib import Path

import numpy as np
import pytest


def write_idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """A hand-made MNIST: 60 images for training, 20 for test, each of the brightness of its label."""
    for prefix, count in (("train", 60), ("t10k", 20)):
        labels = np.arange(count) % 10
        images = np.broadcast_to(labels[:, None, None] * 20, (count, 28, 28))
        for name in ("MNIST", "FashionMNIST"):
            write_idx(tmp_path / name / "raw" / f"{prefix}-images-idx3-ubyte", images)
            write_idx(tmp_path / name / "raw" / f"{prefix}-labels-idx1-ubyte", labels)
    return tmp_path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads go to a proxy that is not there, so that they fail at once wherever the tests run."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
