"""Batches of a split: shuffled, augmented per sample, normalised, mixed. N images, C channels, H x W pixels, K classes."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sensai.data.dataset import Split
from sensai.data.loaders import LoaderSplit
from sensai.data.sets import DATASETS
from sensai.data.transforms import AutoAugment, Mixing, auto_augmented, mix

Augmentation = Literal["none", "crop", "crop_flip"]

# Share of a GPU's free memory for images; members and other processes need the rest.
_SHARE_OF_MEMORY = 0.25


@dataclass(frozen=True)
class Normalization:
    """Computes (pixel / 255 - mean) / std per channel, in the memory format that the network takes."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    memory_format: torch.memory_format = torch.contiguous_format

    def __call__(self, images: Tensor) -> Tensor:
        """Return uint8 (N, C, H, W) as float32 of the same shape; the given images are not changed."""
        mean, std = (_moved(torch.tensor(each).view(1, -1, 1, 1), images.device) for each in (self.mean, self.std))
        return images.to(torch.float32, memory_format=self.memory_format).div_(255).sub_(mean).div_(std)


def default_augmentation(dataset: str) -> Augmentation:
    """Return shifted crops, mirrored too unless the data set declares that its images are symbols."""
    symbols = dataset in DATASETS and not DATASETS[dataset].traits["mirrored"]
    return "crop" if symbols else "crop_flip"


@dataclass(frozen=True)
class OnDeviceDataset:
    """A split in the memory of a GPU.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def rows(self) -> np.ndarray:
        """Return all rows, int64 (N,)."""
        return np.arange(len(self))


# Decoded or streamed images, of which batches are made here, or a loader that makes them.
AnySplit = Split | LoaderSplit


def on_device_dataset(split: AnySplit, device: torch.device) -> AnySplit | OnDeviceDataset:
    """Return the same images in the same order, in a GPU's memory if they are decoded and fit; else the split itself."""
    if device.type != "cuda" or isinstance(split, LoaderSplit) or not isinstance(split.images, np.ndarray):
        return split
    free, _ = torch.cuda.mem_get_info(device)
    if len(split) * split.images[0].nbytes > free * _SHARE_OF_MEMORY:
        return split
    images, labels = torch.from_numpy(split.images[split.rows]), torch.from_numpy(split.labels)
    return OnDeviceDataset(images.to(device), labels.to(device))


def batches(
    split: AnySplit | OnDeviceDataset, batch_size: int, normalization: Normalization, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all images in order, as (images float32 (N, C, H, W), labels int64 (N,)) on the device.

    A loader makes its batches itself, and its floats are as the network takes them.
    """
    if isinstance(split, LoaderSplit):
        for given, own_labels in split.batches():
            yield _as_taken(given, normalization, device), _moved(own_labels, device)
        return
    parts = [split.rows[start : start + batch_size] for start in range(0, len(split), batch_size)]
    for images, labels in _raw_batches(split, parts, device):
        yield normalization(images), labels


def training_batches(
    split: AnySplit | OnDeviceDataset,
    batch_size: int,
    normalization: Normalization,
    device: torch.device,
    epoch: int,
    stream: int = 0,
    *,
    augmentation: Augmentation,
    seed: int,
    auto_augment: AutoAugment = "none",
    mixing: Mixing | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch in the order given by `seed`, `epoch` and `stream`.

    A last batch of one image is omitted, because batch norm needs two.

    Args:
        split: of the images; a loader makes its batches itself, augmented as it does.
        batch_size: images of a batch.
        normalization: of the images.
        device: of the batches.
        epoch: number of the epoch.
        stream: number of the stream; each has an order and random changes of its own.
        augmentation: of every image.
        seed: of everything random.
        auto_augment: policy of a further operation on every image.
        mixing: of the images of a batch with each other; None: they stay as they are.

    Yields:
        Images float32 (N, C, H, W), and labels int64 (N,), or float32 (N, K) of mixed images (see `mix`).
    """
    key = [seed, epoch, 0, stream] if stream else [seed, epoch]
    # Each has a generator of its own, so that what one of them draws does not depend on the others.
    shifts, operations, shares = (_generator(*key, number) for number in (1, 2, 3))
    if isinstance(split, LoaderSplit):
        for given, labels in split.batches(key):
            if len(given) > 1:
                images, labels = _as_taken(given, normalization, device), _moved(labels, device)
                yield (images, labels) if mixing is None else mix(images, labels, mixing, shares)
        return
    order = np.random.default_rng(key).permutation(split.rows)
    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    for raw, labels in _raw_batches(split, [rows for rows in parts if len(rows) > 1], device):
        images = normalization(auto_augmented(augment(raw, augmentation, shifts), auto_augment, operations))
        yield (images, labels) if mixing is None else mix(images, labels, mixing, shares)


def _generator(*numbers: int) -> torch.Generator:
    """Return a generator whose seed follows from the numbers."""
    return torch.Generator().manual_seed(int(np.random.default_rng(numbers).integers(2**63 - 1)))


def steps_per_epoch(split: AnySplit, batch_size: int) -> int:
    """Return the number of batches that `training_batches` yields."""
    if isinstance(split, LoaderSplit):
        return split.steps
    full, rest = divmod(len(split), batch_size)
    return full + (rest > 1)


def _as_taken(images: Tensor, normalization: Normalization, device: torch.device) -> Tensor:
    """Return images of a loader on the device as the network takes them, float32 (N, C, H, W)."""
    moved = _moved(images, device)
    if moved.dtype == torch.uint8:
        return normalization(moved)
    return moved.to(torch.float32, memory_format=normalization.memory_format)


def _raw_batches(
    split: Split | OnDeviceDataset, parts: Sequence[np.ndarray], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images uint8 (N, C, H, W) and labels int64 (N,) of each part of the rows."""
    if isinstance(split, OnDeviceDataset):
        for rows in parts:
            index = _moved(torch.from_numpy(rows), device)
            yield split.images[index], split.labels[index]
        return
    with closing(split.read(parts)) as stream:
        for rows, images in zip(parts, stream, strict=True):
            yield _moved(torch.from_numpy(images), device), _moved(torch.from_numpy(split.all_labels[rows]), device)


def _moved(values: Tensor, device: torch.device) -> Tensor:
    """Return values on a device; the CPU does not wait until a GPU has copied them."""
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Shift every image by up to an eighth of its side (zeros fill in); with `crop_flip`, mirror it with probability 1/2.

    Args:
        images: uint8 (N, C, H, W).
        augmentation: `none`, `crop` or `crop_flip`.
        generator: on the CPU, so that the random numbers do not depend on the device.

    Returns:
        uint8 (N, C, H, W).
    """
    if augmentation == "none":
        return images
    count, channels, height, width = images.shape
    padding = max(height // 8, 1)
    shift = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator)
    rows = torch.arange(height) + shift[0]  # (N, H)
    columns = torch.arange(width) + shift[1]  # (N, W)
    if augmentation == "crop_flip":
        mirrored = torch.rand((count, 1), generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(images, (padding, padding, padding, padding))
    rows, columns = _moved(rows, images.device), _moved(columns, images.device)
    image = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def member_targets(labels: Tensor, classes: tuple[int, ...], num_classes: int) -> Tensor:
    """Return the labels as one member sees them.

    Args:
        labels: int64 (N,), in [0, num_classes).
        classes: the member's classes, in the order of its outputs.
        num_classes: K.

    Returns:
        int64 (N,). Binary member: 1 for its class, else 0. Group of g < K classes: 1 + position in the group, 0 for none of
        them. All K classes: position in the group.
    """
    return _outcomes(classes, num_classes, labels.device)[labels]


# The result is cached, so that no step waits for the GPU.
@lru_cache
def _outcomes(classes: tuple[int, ...], num_classes: int, device: torch.device) -> Tensor:
    """Return int64 (K,): the outcome of each class."""
    first = 0 if len(classes) == num_classes else 1
    table = torch.zeros(num_classes, dtype=torch.int64)
    table[list(classes)] = torch.arange(first, first + len(classes))
    return table.to(device)
