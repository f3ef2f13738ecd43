"""Images that a loader of the user's gives, batch by batch. N images, C channels, H x W pixels, K classes."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from sensai.errors import InputError


@dataclass(frozen=True)
class LoaderSplit:
    """A split that a loader gives, e.g. a `torch.utils.data.DataLoader`: its batches, order and transforms are kept.

    Attributes:
        loader: yields pairs (images, labels) anew each time that it is iterated, and has a length.
        image_shape: (C, H, W) of every image.
        num_classes: K.
        name: of the parameter that gave it, for messages.
    """

    loader: Any
    image_shape: tuple[int, int, int]
    num_classes: int
    name: str

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def labels(self) -> np.ndarray:
        """Return the labels, int64 (N,): those of the data set where it tells them, else of a pass through the loader.

        Their order is not that of the batches.
        """
        known = _known_labels(self.loader)
        if known is None:
            known = torch.cat([labels for _, labels in self.batches()])
        self._check_labels(known)
        return known.numpy()

    @property
    def steps(self) -> int:
        """Return the number of batches of an epoch of training, those of one image left out."""
        count, size = len(self.loader), getattr(self.loader, "batch_size", None)
        alone = size is not None and size > 1 and not getattr(self.loader, "drop_last", False) and len(self) % size == 1
        return count - alone

    def batches(self, seed: Sequence[int] = (0,)) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one pass on the CPU: images float or uint8 (N, C, H, W), labels int64 (N,).

        Args:
            seed: of everything that the loader draws, from its own generator and from the global ones of torch, NumPy and
                Python, which are left as they were. So even a loader that shuffles gives the same order for the same seed.

        Raises:
            InputError: it gives something else.
        """
        for batch in reproducibly(self.loader, seed):
            yield self._checked(batch)

    def _checked(self, batch: object) -> tuple[Tensor, Tensor]:
        images, labels = pair_of(batch, self.name)
        if tuple(images.shape[1:]) != self.image_shape:
            raise InputError(f"{self.name}: gives images {tuple(images.shape[1:])} beside others {self.image_shape}")
        self._check_labels(labels)
        return images, labels

    def _check_labels(self, labels: Tensor) -> None:
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            raise InputError(
                f"{self.name}: has labels from {int(labels.min())} to {int(labels.max())}; "
                f"of {self.num_classes} classes they must be from 0 to {self.num_classes - 1}"
            )


def pair_of(batch: object, name: str) -> tuple[Tensor, Tensor]:
    """Return images float or uint8 (N, C, H, W) and labels int64 (N,) of what a loader gave.

    Args:
        batch: the first two of a tuple or list count.
        name: of the loader, for messages.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(batch, tuple | list) or len(batch) < 2 or not all(isinstance(each, Tensor) for each in batch[:2]):
        kinds = ", ".join(type(each).__name__ for each in batch) if isinstance(batch, tuple | list) else ""
        raise InputError(
            f"{name}: must give pairs of tensors (images, labels), not {type(batch).__name__}{f' of {kinds}' if kinds else ''}"
        )
    images, labels = batch[:2]
    if images.ndim != 4 or not (images.is_floating_point() or images.dtype == torch.uint8):
        raise InputError(
            f"{name}: images must be float or uint8 (N, C, H, W), not {images.dtype} {tuple(images.shape)}"
        )
    if labels.shape != images.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(
            f"{name}: labels must be class indices ({len(images)},), not {labels.dtype} {tuple(labels.shape)}"
        )
    return images, labels.to("cpu", torch.int64)


def _known_labels(source: Any) -> Tensor | None:
    """Return the labels int64 (N,) of a loader or data set where it tells them for exactly its images, else None."""
    if isinstance(source, torch.utils.data.DataLoader):
        every = isinstance(source.sampler, torch.utils.data.SequentialSampler | torch.utils.data.RandomSampler)
        of_dataset = getattr(source.sampler, "data_source", None) is source.dataset
        whole = every and of_dataset and not source.drop_last and not getattr(source.sampler, "replacement", False)
        return _known_labels(source.dataset) if whole else None
    if isinstance(source, TensorDataset):
        return source.tensors[1].to(torch.int64)
    if isinstance(source, Subset):
        known = _known_labels(source.dataset)
        return None if known is None else known[torch.as_tensor(source.indices)]
    targets = getattr(source, "targets", None)
    if targets is None or getattr(source, "target_transform", None) is not None:
        return None
    return torch.as_tensor(targets).to(torch.int64)


def reproducibly(loader: Any, seed: Sequence[int] = (0,)) -> Iterator[Any]:
    """Yield what one pass through a loader gives, all that it draws decided by a seed (see `LoaderSplit.batches`)."""
    generators = _Generators(seed, getattr(loader, "generator", None))
    iterator: Iterator[Any] | None = None
    while True:
        # The caller draws from the same generators between two batches.
        with generators.active():
            iterator = iter(loader) if iterator is None else iterator
            batch = next(iterator, None)
        if batch is None:
            return
        yield batch


class _Generators:
    """States of the global generators of torch, NumPy and Python, and of a loader's own, which follow from a seed."""

    def __init__(self, seed: Sequence[int], own: torch.Generator | None) -> None:
        number = int(np.random.default_rng(seed).integers(2**32))
        of_torch = torch.Generator().manual_seed(number).get_state()
        self._own = own
        self._states: tuple[Any, ...] = (
            of_torch,
            np.random.RandomState(number).get_state(),
            random.Random(number).getstate(),  # noqa: S311
            None if own is None else of_torch,
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let the block draw from these states, and give the generators back their own after it."""
        before = self._present()
        self._set(self._states)
        try:
            yield
        finally:
            self._states = self._present()
            self._set(before)

    def _present(self) -> tuple[Any, ...]:
        own = None if self._own is None else self._own.get_state()
        return torch.get_rng_state(), np.random.get_state(), random.getstate(), own  # noqa: NPY002

    def _set(self, states: tuple[Any, ...]) -> None:
        of_torch, of_numpy, of_python, own = states
        torch.set_rng_state(of_torch)
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)
        if self._own is not None:
            self._own.set_state(own)
