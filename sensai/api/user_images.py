"""Images as users have them. N images, C channels, H x W pixels, K classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from sensai.data.batches import AnySplit, Normalization
from sensai.data.checks import check_class_names
from sensai.data.dataset import Split
from sensai.data.loaders import LoaderSplit, pair_of, reproducibly
from sensai.errors import InputError

# A DataLoader of torch, another iterable of batches with a length, a data set of torch, or a pair (images, labels).
UserImages = Any
# Images of one pass without training.
BATCH = 256
_FORMS = "must be a DataLoader, a torch.utils.data.Dataset or a pair (images, labels) of arrays or tensors"


def first_batch(data: UserImages, name: str) -> Tensor:
    """Return the first images as they are given, (N, C, H, W).

    Raises:
        InputError: the data are not in one of the forms, or empty.
    """
    loader = _loader(data, name, BATCH, shuffle=False)
    if isinstance(loader, Split):
        return torch.from_numpy(loader.images[loader.rows[:BATCH]])
    batch = next(reproducibly(loader), None)
    if batch is None:
        raise InputError(f"{name}: has no images")
    return pair_of(batch, name)[0]


def split_of(
    data: UserImages,
    name: str,
    num_classes: int,
    image_shape: tuple[int, int, int],
    *,
    batch_size: int = BATCH,
    shuffle: bool = False,
) -> AnySplit:
    """Return the user's images as the library takes them.

    Pairs of uint8 become a split, of which batches are made and normalised here. All else is a loader, whose floats are as the
    network takes them.

    Args:
        data: see `UserImages`.
        name: of the parameter, for messages.
        num_classes: K.
        image_shape: (C, H, W) that the network takes.
        batch_size: where the data are not batches yet.
        shuffle: likewise.

    Raises:
        InputError: the data are not in one of the forms, of another shape, or a label is no class.
    """
    found = _loader(data, name, batch_size, shuffle)
    if not isinstance(found, Split):
        return LoaderSplit(found, image_shape, num_classes, name)
    if found.images.shape[1:] != image_shape:
        raise InputError(f"{name}: images have shape {found.images.shape[1:]}, and the network takes {image_shape}")
    if found.labels.min() < 0 or found.labels.max() >= num_classes:
        raise InputError(
            f"{name}: has labels from {found.labels.min()} to {found.labels.max()}; of {num_classes} classes they must be from "
            f"0 to {num_classes - 1}"
        )
    return found


def names_of_classes(data: UserImages, num_classes: int, given: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names that are given, else those of the data set where it has as many, else the numbers.

    Raises:
        InputError: they are not K different texts.
    """
    known = given if given is not None else getattr(getattr(data, "dataset", data), "classes", None)
    if known is None or (given is None and len(known) != num_classes):
        return tuple(map(str, range(num_classes)))
    names = tuple(map(str, known))
    if len(names) != num_classes:
        raise InputError(f"class_names: must be {num_classes} names, one a class, not {len(names)}")
    check_class_names(names, "class_names")
    return names


def normalization_of(channels: int, mean: Any, std: Any) -> Normalization:
    """Return the normalisation that float images have had, and that uint8 images get: by default none but a division by 255.

    Raises:
        InputError: not one value a channel.
    """
    values: list[tuple[float, ...]] = []
    for name, given, default in (("mean", mean, 0.0), ("std", std, 1.0)):
        each = (default,) * channels if given is None else tuple(map(float, np.atleast_1d(np.asarray(given, float))))
        if len(each) != channels or not np.isfinite(each).all() or (name == "std" and min(each) <= 0):
            above = " above 0" if name == "std" else ""
            raise InputError(f"{name}={given!r}: must be {channels} numbers{above}, one a channel")
        values.append(each)
    return Normalization(values[0], values[1])


def raw_images(images: Tensor, normalization: Normalization) -> np.ndarray:
    """Return images as pixels uint8 (N, C, H, W), the normalisation undone if they are floats."""
    if images.dtype == torch.uint8:
        return images.cpu().numpy()
    mean, std = (torch.tensor(each).view(1, -1, 1, 1) for each in (normalization.mean, normalization.std))
    pixels = (images.cpu().float() * std + mean) * 255
    return pixels.round().clamp(0, 255).to(torch.uint8).numpy()


def _loader(data: UserImages, name: str, batch_size: int, shuffle: bool) -> Any:
    """Return a split of uint8 images, or a loader.

    Raises:
        InputError: the data are not in one of the forms.
    """
    if (
        isinstance(data, tuple | list)
        and len(data) == 2
        and all(isinstance(each, Tensor | np.ndarray) for each in data)
    ):
        return _of_pair(data[0], data[1], name, batch_size, shuffle)
    if isinstance(data, Dataset) and hasattr(data, "__len__"):
        return DataLoader(data, batch_size, shuffle=shuffle)
    if isinstance(data, str | bytes | dict | Tensor | np.ndarray) or not hasattr(data, "__iter__"):
        raise InputError(f"{name}: {_FORMS}, not {type(data).__name__}")
    try:
        count = len(data)
    except TypeError as error:
        raise InputError(
            f"{name}: must have a length and be iterable several times, as a DataLoader of a data set with a length"
        ) from error
    if not count:
        raise InputError(f"{name}: has no images")
    return data


def _of_pair(
    images: Tensor | np.ndarray, labels: Tensor | np.ndarray, name: str, batch_size: int, shuffle: bool
) -> Any:
    values, classes = torch.as_tensor(images), torch.as_tensor(labels)
    # Data set functions of the entry points give channels last, or grey images without them.
    if values.ndim == 3:
        values = values.unsqueeze(1)
    elif (
        values.ndim == 4 and values.dtype == torch.uint8 and values.shape[1] not in (1, 3) and values.shape[3] in (1, 3)
    ):
        values = values.permute(0, 3, 1, 2)
    values, classes = pair_of((values, classes), name)
    if not len(values):
        raise InputError(f"{name}: has no images")
    if values.dtype != torch.uint8:
        return DataLoader(TensorDataset(values, classes), batch_size, shuffle=shuffle)
    pixels = np.ascontiguousarray(values.cpu().numpy())
    return Split(pixels, classes.numpy(), np.arange(len(pixels)))
