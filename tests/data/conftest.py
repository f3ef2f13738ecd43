"""Hand-made files of data sets, and no way to download any."""

from pathlib import Path

import pytest

from tests.helpers.idx import write_mnist


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """A hand-made MNIST: 60 images for training, 20 for test, each of the brightness of its label."""
    for name in ("MNIST", "FashionMNIST"):
        write_mnist(tmp_path / name)
    return tmp_path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads go to a proxy that is not there, so that they fail at once wherever the tests run."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
