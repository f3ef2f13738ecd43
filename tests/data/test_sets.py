"""Every data set that has a name against what all promise."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from sensai.data.batches import default_augmentation
from sensai.data.dataset import load_dataset
from sensai.data.dataset_names import SPLITS, InputRule
from sensai.data.sets import DATASETS
from sensai.data.sources import Arrays, ArraySource
from sensai.errors import InputError

# Files of these are hand-made here; torchvision knows the others' by their digests.
READABLE = {"digits", "mnist", "fashion_mnist", "imagefolder"}


@pytest.fixture
def files(idx_folder: Path) -> Path:
    """Files of several data sets in one folder."""
    for label, name in enumerate(["dark", "light"]):
        (idx_folder / "train" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (9, 8), (200 * label, 0, 0)).save(idx_folder / "train" / name / f"{number}.png")
    return idx_folder


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_keeps_the_protocol(name: str, files: Path) -> None:
    part = DATASETS[name]
    inputs = SimpleNamespace(data_dir=str(files), download_dir=files)
    source = part(inputs)
    assert source.identity == part(inputs).identity
    assert isinstance(part.traits["mirrored"], bool)
    if name not in READABLE:
        with pytest.raises(InputError, match=f"^dataset='{name}': not found"):
            source.read(32, InputRule(32, 3, 32))
        return
    arrays = source.read(32, InputRule(32, 3, 32))
    assert isinstance(arrays, Arrays)
    assert "train" in arrays.splits
    assert set(arrays.splits) <= set(SPLITS)
    for images, labels in arrays.splits.values():
        assert images.shape[1:] == (3, 32, 32)
        assert (len(labels), labels.dtype) == (len(images), np.int64)
        assert set(labels.tolist()) <= set(range(len(arrays.class_names)))


def test_symbols_are_not_mirrored() -> None:
    symbols = [name for name in DATASETS if default_augmentation(name) == "crop"]
    assert symbols == ["digits", "mnist", "svhn"]
    assert default_augmentation("sets.py:make") == "crop_flip"


def test_a_data_set_of_ones_own_is_given_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def own(data_dir: str, download_dir: Path) -> ArraySource:
        given.append((data_dir, download_dir))
        images = np.zeros((20, 1, 8, 8), np.uint8)
        return ArraySource("own", lambda: Arrays(("a", "b"), {"train": (images, np.arange(20) % 2)}))

    monkeypatch.setattr(DATASETS, "_parts", {name: DATASETS[name] for name in DATASETS})
    DATASETS.register("own", "of this test")(own)
    for data_dir in ("", "here"):
        assert len(load_dataset("own", data_dir, work_dir=tmp_path, rule=InputRule(None, None)).train) == 18
    assert given == [("", tmp_path / "downloads"), ("here", Path("here"))]


def test_an_image_folder_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data_dir='': dataset=imagefolder needs the folder that holds train/"):
        load_dataset("imagefolder", "", work_dir=tmp_path, rule=InputRule(None, None))
