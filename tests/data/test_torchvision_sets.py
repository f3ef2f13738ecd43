"""The sets of torchvision: read from existing files, or a message names the files to put where."""

import time
from pathlib import Path

import numpy as np
import pytest

from sensai.data.dataset import load_dataset
from sensai.data.dataset_names import InputRule
from sensai.errors import InputError
from tests.helpers.idx import write_idx


def test_mnist_is_read_from_its_files(idx_folder: Path, tmp_path: Path) -> None:
    data = load_dataset(
        "mnist", str(idx_folder), work_dir=tmp_path / "work", rule=InputRule(None, None), val_fraction=0.2
    )
    assert data.image_shape == (1, 28, 28)
    assert data.val is not None
    assert data.test is not None
    assert (len(data.train), len(data.val), len(data.test)) == (48, 12, 20)
    assert len(data.class_names) == 10
    for split in (data.train, data.val, data.test):
        assert np.array_equal(split.images[split.rows][:, 0, 5, 5], split.labels * 20)


def test_mnist_fits_a_network_for_colour_images(idx_folder: Path, tmp_path: Path) -> None:
    data = load_dataset("mnist", str(idx_folder), work_dir=tmp_path / "work", rule=InputRule(32, 3))
    assert data.image_shape == (3, 32, 32)
    # 28 -> 32: padded by two on each side, not scaled.
    image = data.train.images[1]
    assert (image[:, 2:-2, 2:-2] == 20).all()
    assert not image[:, :2].any()
    assert not image[:, :, -2:].any()


def test_fashion_mnist_names_its_classes(idx_folder: Path, tmp_path: Path) -> None:
    data = load_dataset("fashion_mnist", str(idx_folder), work_dir=tmp_path / "work", rule=InputRule(None, None))
    assert data.class_names[0] == "T-shirt/top"
    assert data.class_names[9] == "Ankle boot"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(60, 77), "labels run from 0 to 77, but there are 10 classes"),
        (np.arange(59) % 10, r"train must be images uint8 .* but got uint8 \(60, 28, 28\) and int64 \(59,\) labels"),
        (None, "the files under data_dir='.*' are broken"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(
    idx_folder: Path, tmp_path: Path, labels: np.ndarray | None, message: str
) -> None:
    path = idx_folder / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    if labels is None:
        path.write_bytes(b"\xff" * 100)
    else:
        write_idx(path, labels)
    with pytest.raises(InputError, match=f"^dataset='mnist': .*{message}") as caught:
        load_dataset("mnist", str(idx_folder), work_dir=tmp_path / "work", rule=InputRule(None, None))
    assert "\n" not in str(caught.value)


FILES = {
    "mnist": "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz",
    "fashion_mnist": "FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz",
    "cifar10": "cifar-10-python.tar.gz",
    "cifar100": "cifar-100-python.tar.gz",
    "svhn": "train_32x32.mat and test_32x32.mat",
}


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", FILES)
def test_without_network_the_message_names_files_and_folder(name: str, tmp_path: Path) -> None:
    start = time.perf_counter()
    with pytest.raises(InputError, match=f"dataset='{name}': not found under") as caught:
        load_dataset(name, str(tmp_path / "here"), work_dir=tmp_path / "work", rule=InputRule(32, 3))
    assert time.perf_counter() - start < 20
    message = str(caught.value)
    assert str(tmp_path / "here") in message
    assert FILES[name] in message
    assert "cannot be downloaded" in message
    assert "\n" not in message
    assert not list((tmp_path / "work").glob("data/*/manifest.json"))


@pytest.mark.usefixtures("no_network")
def test_downloads_go_below_work_dir_by_default(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"data_dir='{tmp_path}/work/downloads'"):
        load_dataset("cifar10", "", work_dir=tmp_path / "work", rule=InputRule(32, 3))
