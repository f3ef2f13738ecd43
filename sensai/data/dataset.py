"""A data set by name: decoded once into array files that every process maps, split, and described."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from filelock import FileLock

from sensai.data import names
from sensai.data.names import InputRule
from sensai.data.sources import Source, digest, digits, image_folder, torchvision_set, user_set
from sensai.errors import InputError
from sensai.files import make_folder, whole_folder

_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Split:
    """Some rows of an array of images.

    Attributes:
        images: uint8, (all N, C, H, W), memory-mapped.
        all_labels: int64, (all N,).
        rows: int64, (N,): the rows that belong to this split.
    """

    images: np.ndarray
    all_labels: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def labels(self) -> np.ndarray:
        """int64, (N,)."""
        return self.all_labels[self.rows]


@dataclass(frozen=True)
class Dataset:
    """A data set brought to the size that a network takes.

    Attributes:
        name: as given by the parameter `dataset`.
        class_names: the K labels.
        train: what is learnt from and scored.
        val: what every choice is made on; None where no class can spare an image.
        test: read once, by `evaluate`; None where the data have none.
        digest: SHA-256 of labels and images.
        mean: of all training images in [0, 1], one value a channel.
        std: likewise.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    val: Split | None
    test: Split | None
    digest: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one image."""
        channels, height, width = self.train.images.shape[1:]
        return (channels, height, width)


def load_dataset(
    name: str,
    data_dir: str,
    *,
    work_dir: Path,
    rule: InputRule,
    image_size: int | None = None,
    val_fraction: float = 0.1,
    split_seed: int = 0,
) -> Dataset:
    """The data set of a name, decoded on first use into `work_dir`/data.

    Args:
        name: one of `names.DATASETS`, `path/to/file.py:factory` or `package.module:factory`.
        data_dir: where the files lie; torchvision's sets download into it (default `work_dir`/downloads).
        work_dir: where decoded arrays are kept.
        rule: the input that the architecture takes.
        image_size: side in pixels that images are brought to.
        val_fraction: share of the training data that is validation where the data have no split of their own.
        split_seed: seed of that stratified split.

    Raises:
        InputError: unknown name, missing or broken files, images that do not fit the network.
    """
    source = _source(name, data_dir, work_dir)
    key = hashlib.sha256(f"{source.identity} {image_size} {rule}".encode()).hexdigest()[:32]
    folder = work_dir / "data" / key
    _decode_once(source, folder, image_size, rule)
    manifest = json.loads((folder / _MANIFEST).read_text())
    stored = {split: _mapped(folder, split) for split in manifest["splits"]}
    train, val = stored["train"], stored.get("val")
    if val is None:
        train, val = _split_off(train, val_fraction, split_seed)
    return Dataset(
        name=name,
        class_names=tuple(manifest["class_names"]),
        train=train,
        val=val,
        test=stored.get("test"),
        digest=manifest["digest"],
        mean=tuple(manifest["mean"]),
        std=tuple(manifest["std"]),
    )


def _source(name: str, data_dir: str, work_dir: Path) -> Source:
    if name in names.BUILT_IN:
        return digits()
    if name in names.TORCHVISION:
        return torchvision_set(name, Path(data_dir) if data_dir else work_dir / "downloads")
    if name == names.FOLDER:
        if not data_dir:
            raise InputError("data_dir='': dataset=imagefolder needs the folder that holds train/")
        return image_folder(Path(data_dir))
    return user_set(name, data_dir)


def _decode_once(source: Source, folder: Path, image_size: int | None, rule: InputRule) -> None:
    make_folder(folder.parent, "work_dir")
    with FileLock(folder.with_suffix(".lock")):
        if (folder / _MANIFEST).exists():
            return
        arrays = source.read(image_size, rule)
        images = arrays.splits["train"][0]
        mean, std = _channel_statistics(images)
        with whole_folder(folder) as target:
            for split, (split_images, labels) in arrays.splits.items():
                np.save(target / f"{split}_images.npy", split_images, allow_pickle=False)
                np.save(target / f"{split}_labels.npy", labels, allow_pickle=False)
            manifest = {
                "class_names": arrays.class_names,
                "splits": list(arrays.splits),
                "digest": digest(arrays),
                "mean": mean,
                "std": std,
            }
            (target / _MANIFEST).write_text(json.dumps(manifest, indent=1))


def _channel_statistics(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of pixel values in [0, 1] per channel, from exact counts of the 256 values."""
    values = np.arange(256) / 255
    mean, std = [], []
    for channel in range(images.shape[1]):
        share = np.bincount(images[:, channel].ravel(), minlength=256) / images[:, channel].size
        mean.append(float(share @ values))
        # A constant channel would otherwise divide by zero.
        std.append(float(np.sqrt(share @ (values - mean[-1]) ** 2)) or 1.0)
    return mean, std


def _mapped(folder: Path, split: str) -> Split:
    images = np.load(folder / f"{split}_images.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(folder / f"{split}_labels.npy", allow_pickle=False)
    return Split(images, labels, np.arange(len(labels)))


def _split_off(train: Split, fraction: float, seed: int) -> tuple[Split, Split | None]:
    """A stratified validation split of the training rows, or none where some class has too few images for one."""
    from sklearn.model_selection import train_test_split

    counts = np.bincount(train.labels)
    held_out = round(fraction * len(train))
    if counts[counts > 0].min() < 2 or held_out < (counts > 0).sum():
        return train, None
    kept, validation = train_test_split(train.rows, test_size=held_out, stratify=train.labels, random_state=seed)
    return (
        Split(train.images, train.all_labels, np.sort(kept)),
        Split(train.images, train.all_labels, np.sort(validation)),
    )
