"""A data set by name: split, described, and decoded once into array files that every process maps, or streamed."""

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sensai.data.dataset_names import InputRule
from sensai.data.duplicates import equal_files
from sensai.data.folders import FolderSource
from sensai.data.sets import DATASETS
from sensai.data.sources import Arrays, Source, digest, user_set
from sensai.data.splitting import split_off, why_no_validation
from sensai.data.streaming import Images, in_chunks, read_ahead
from sensai.files import array_bytes, make_folder, reading, reserve, whole_folder, write_array, write_text, writing
from sensai.locks import locked

_log = logging.getLogger(__name__)
_MANIFEST = "manifest.json"
SPLITS = ("train", "val", "test")
# An image folder with larger arrays, all splits together, is streamed: nothing of it is decoded to disk.
DECODED_LIMIT = 4 * 2**30
# Mean and standard deviation of a streamed set come from so many training images, evenly spaced.
STATISTICS_SAMPLE = 4096


@dataclass(frozen=True)
class Split:
    """Some rows of an array of images.

    Attributes:
        images: uint8, (all N, C, H, W): a mapped array, or image files that are decoded as they are read.
        all_labels: int64, (all N,).
        rows: int64, (N,): the rows that belong to this split.
    """

    images: Images
    all_labels: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def labels(self) -> np.ndarray:
        """Return the labels, int64, (N,)."""
        return self.all_labels[self.rows]

    def read(self, batches_of_rows: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
        """Yield the images uint8 (N, C, H, W) of each batch of rows; files are decoded ahead of their use.

        Raises:
            InputError: an image file cannot be read.
        """
        return read_ahead(self.images, batches_of_rows)


@dataclass(frozen=True)
class Dataset:
    """A data set in the size that a network takes.

    Attributes:
        name: as given by the parameter `dataset`.
        class_names: the K labels.
        train: used for training and for statistics.
        val: used for every choice; None if some class cannot spare an image.
        test: read once, by `evaluate`; None if the data have none.
        digest: SHA-256 of labels and images; of a streamed set see `FolderSource.digest`.
        mean: of the training images in [0, 1] (of a streamed set: `STATISTICS_SAMPLE` of them), one value a channel.
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
        """Return the shape (C, H, W) of one image."""
        channels, height, width = self.train.images.shape[1:]
        return (channels, height, width)

    @property
    def val_digest(self) -> str:
        """Return the SHA-256 of data and validation rows, which identifies the images; empty if there are none."""
        if self.val is None:
            return ""
        return hashlib.sha256(self.digest.encode() + self.val.rows.astype("<i8").tobytes()).hexdigest()


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
    """Return the data set of a name, decoded on first use into `work_dir`/data; a folder above `DECODED_LIMIT` is streamed.

    Warn if there is no validation split or if an image lies in two splits, because its accuracies are then less reliable.

    Args:
        name: one of `DATASETS`, `path/to/file.py:factory` or `package.module:factory`.
        data_dir: folder of the files; torchvision's sets download into it (default `work_dir`/downloads).
        work_dir: folder that keeps decoded arrays, or the description of a streamed set.
        rule: the input that the architecture takes.
        image_size: side of the images in pixels, after resizing.
        val_fraction: share of the training data used for validation if the data have no validation split.
        split_seed: seed of that stratified split.

    Raises:
        InputError: unknown name, missing or broken files, images that do not fit the network.
        StorageError: there is no space for the decoded arrays.
    """
    prepared = prepare_dataset(name, data_dir, work_dir=work_dir, rule=rule, image_size=image_size)
    return prepared.split(val_fraction, split_seed)


@dataclass(frozen=True)
class PreparedDataset:
    """A data set that is decoded or described in a working folder, before a validation split is taken off.

    Its digest identifies the images without reading any, which is all that a cached result needs.

    Attributes:
        name: as given by the parameter `dataset`.
        source: of the images.
        folder: of the decoded arrays.
        manifest: the description of both.
    """

    name: str
    source: Source
    folder: Path
    manifest: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Return the digest of `Dataset`."""
        digest: str = self.manifest["digest"]
        return digest

    def split(self, val_fraction: float, split_seed: int) -> Dataset:
        """Return the data set with its splits; see `load_dataset`.

        Raises:
            InputError: an array is damaged.
        """
        source, manifest = self.source, self.manifest
        if isinstance(source, FolderSource) and (streamed := manifest.get("streamed")):
            arrays = source.fitted_to(tuple(streamed)).splits
        else:
            arrays = {split: _mapped(self.folder, split) for split in manifest["splits"]}
        stored = {split: Split(images, labels, np.arange(len(labels))) for split, (images, labels) in arrays.items()}
        class_names = tuple(manifest["class_names"])
        if "val" not in stored:
            stored |= _split_off(stored["train"], class_names, val_fraction, split_seed)
        if isinstance(source, FolderSource):
            _warn_of_shared_images(source, manifest["equal_files"], stored)
        return Dataset(
            name=self.name,
            class_names=class_names,
            train=stored["train"],
            val=stored.get("val"),
            test=stored.get("test"),
            digest=self.digest,
            mean=tuple(manifest["mean"]),
            std=tuple(manifest["std"]),
        )


def prepare_dataset(
    name: str, data_dir: str, *, work_dir: Path, rule: InputRule, image_size: int | None = None
) -> PreparedDataset:
    """Return the data set of a name, decoded or described on first use; see `load_dataset`.

    Raises:
        InputError: unknown name, missing or broken files, images that do not fit the network.
        StorageError: there is no space for the decoded arrays.
    """
    source = _source(name, data_dir, work_dir)
    key = hashlib.sha256(f"{source.identity} {image_size} {rule}".encode()).hexdigest()[:32]
    folder = work_dir / "data" / key
    return PreparedDataset(name, source, folder, _prepared(source, folder, image_size, rule))


@dataclass(frozen=True)
class _Inputs:
    """Inputs of the data sets, as `sensai.data.sets` describes them."""

    data_dir: str
    download_dir: Path


def _source(name: str, data_dir: str, work_dir: Path) -> Source:
    if name not in DATASETS:
        return user_set(name, data_dir)
    downloads = Path(data_dir) if data_dir else work_dir / "downloads"
    source: Source = DATASETS[name](_Inputs(data_dir, downloads))
    return source


def _prepared(source: Source, folder: Path, image_size: int | None, rule: InputRule) -> dict[str, Any]:
    """Return the manifest of a data set, made on first use; the decoded arrays lie beside it, unless the set is streamed."""
    make_folder(folder.parent, "work_dir")
    with writing(folder.parent), locked(folder.with_suffix(".lock"), f"decoding the images of {folder.name}"):
        if not (folder / _MANIFEST).exists():
            # A process that was killed while decoding may have left folders.
            for left in folder.parent.glob(f".{folder.name}.*"):
                shutil.rmtree(left, ignore_errors=True)
            arrays = source.read(image_size, rule)
            with whole_folder(folder) as target:
                if isinstance(source, FolderSource) and _bytes(arrays) > DECODED_LIMIT:
                    manifest = _description_of_streamed(source, arrays)
                else:
                    manifest = _description_of_decoded(_decode(arrays, target))
                if isinstance(source, FolderSource):
                    manifest["equal_files"] = _equal_images(source)
                write_text(target / _MANIFEST, json.dumps(manifest, indent=1))
    with _reading(folder):
        return dict(json.loads((folder / _MANIFEST).read_text()))


def _reading(folder: Path) -> AbstractContextManager[None]:
    return reading(f"the prepared data set {str(folder)!r}", "remove the folder: it is made again")


def _bytes(arrays: Arrays) -> int:
    return sum(math.prod(images.shape) for images, _ in arrays.splits.values())


def _decode(arrays: Arrays, folder: Path) -> Arrays:
    """Return the same images as array files in a folder, whose space is reserved before the first image is decoded."""
    for split, (images, _) in arrays.splits.items():
        reserve(_images_file(folder, split), array_bytes(images.shape, np.uint8))
    for split, (images, labels) in arrays.splits.items():
        write_array(_images_file(folder, split), images.shape, np.uint8, _decoded(images, split))
        write_array(_labels_file(folder, split), labels.shape, np.int64, [labels])
    return Arrays(arrays.class_names, {split: _mapped(folder, split) for split in arrays.splits})


def _decoded(images: Images, split: str) -> Iterator[np.ndarray]:
    """Yield all images in order, part by part, with a progress bar."""
    # If no terminal clears the bar, the next line would be written behind it.
    with tqdm(total=len(images), desc=f"decoding {split}", unit="image", leave=False, disable=None) as bar:
        for chunk in read_ahead(images, in_chunks(np.arange(len(images)), images.shape[1:])):
            yield chunk
            bar.update(len(chunk))


def _images_file(folder: Path, split: str) -> Path:
    return folder / f"{split}_images.npy"


def _labels_file(folder: Path, split: str) -> Path:
    return folder / f"{split}_labels.npy"


def _mapped(folder: Path, split: str) -> tuple[Images, np.ndarray]:
    with _reading(folder):
        images = np.load(_images_file(folder, split), mmap_mode="r", allow_pickle=False)
        labels = np.load(_labels_file(folder, split), allow_pickle=False)
        if labels.shape != images.shape[:1]:
            raise ValueError(f"{split} has {len(images)} images and {len(labels)} labels")
    return images, labels


def _description_of_decoded(arrays: Arrays) -> dict[str, Any]:
    images, _ = arrays.splits["train"]
    mean, std = _channel_statistics(images, np.arange(len(images)))
    return {
        "class_names": arrays.class_names,
        "splits": list(arrays.splits),
        "digest": digest(arrays),
        "mean": mean,
        "std": std,
    }


def _description_of_streamed(source: FolderSource, arrays: Arrays) -> dict[str, Any]:
    images, _ = arrays.splits["train"]
    _, channels, height, width = images.shape
    sample = np.unique(np.linspace(0, len(images) - 1, STATISTICS_SAMPLE).round().astype(np.int64))
    mean, std = _channel_statistics(images, sample)
    return {
        "class_names": arrays.class_names,
        "streamed": (channels, height, width),
        "digest": source.digest((channels, height, width)),
        "mean": mean,
        "std": std,
    }


def _channel_statistics(images: Images, rows: np.ndarray) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of pixel values in [0, 1] per channel, from exact counts of the 256 values."""
    values = np.arange(256) / 255
    counts = np.zeros((images.shape[1], 256), np.int64)
    for chunk in read_ahead(images, in_chunks(rows, images.shape[1:])):
        counts += [np.bincount(channel.ravel(), minlength=256) for channel in chunk.swapaxes(0, 1)]
    mean, std = [], []
    for count in counts:
        share = count / count.sum()
        mean.append(float(share @ values))
        # A constant channel would otherwise cause a division by zero.
        std.append(float(np.sqrt(share @ (values - mean[-1]) ** 2)) or 1.0)
    return mean, std


def _split_off(train: Split, class_names: tuple[str, ...], fraction: float, seed: int) -> dict[str, Split]:
    """Return the training split and a validation split taken from it; only the former if some class cannot spare an image."""
    if why := why_no_validation(train.labels, class_names, fraction):
        _log.warning(
            "no validation split: %s. Epochs, thresholds and methods are not chosen on held-out images, and the biases of "
            'groups\' "none" rows are fitted on training images. More images, or a val split, would help',
            why,
        )
        return {"train": train}
    kept, validation = split_off(train.labels, fraction, seed)
    return {
        split: Split(train.images, train.all_labels, train.rows[positions])
        for split, positions in (("train", kept), ("val", validation))
    }


def _equal_images(source: FolderSource) -> list[list[tuple[str, int]]]:
    """Return the images whose files have the same bytes as others, as (split, row), a list for each content."""
    places = [(split, row) for split, (names, _) in source.files.items() for row in range(len(names))]
    found = equal_files([source.folder / source.files[split][0][row] for split, row in places])
    return [[places[position] for position in group] for group in found]


def _warn_of_shared_images(source: FolderSource, equal: list[list[tuple[str, int]]], splits: dict[str, Split]) -> None:
    """Log the number of images that lie in more than one split, including a validation split taken from the training split."""
    held_out = set(splits["val"].rows.tolist()) if "val" in splits and "val" not in source.files else set()
    shared = []
    for group in equal:
        # One file stands for each split that contains the image.
        by_split = {"val" if split == "train" and row in held_out else split: (split, row) for split, row in group}
        if len(by_split) > 1:
            shared.append([source.files[split][0][row] for split, row in by_split.values()])
    if shared:
        first, second, *_ = shared[0]
        count = "1 image lies" if len(shared) == 1 else f"{len(shared)} images lie"
        _log.warning("%s in more than one split (files of equal bytes), e.g. as %r and %r", count, first, second)
