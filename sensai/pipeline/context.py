"""Give a stage the data, the device and the base model of its configuration, its run, and the runs before it."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sensai.config import StageConfig
from sensai.data.dataset import Dataset
from sensai.errors import InputError
from sensai.files import regular_file
from sensai.pipeline.session import Session
from sensai.tracking import Run, Store

# Cached results are found without torch, so it is imported where something is computed.
if TYPE_CHECKING:
    import torch

    from sensai.data.batches import Augmentation, Normalization
    from sensai.models.factory import NetworkSpec
    from sensai.pipeline.base_model import BaseModel

T = TypeVar("T")

# Limits of a forward pass without training, in images and in pixels: 20 images of 224 x 224.
_EVALUATION_BATCH = 256
_EVALUATION_PIXELS = 2**20


@dataclass(frozen=True)
class Context:
    """The inputs of a stage: parameters, run, data, models. Data and models are loaded on first use.

    Attributes:
        config: the stage's parameters.
        session: of this process.
        run: the stage's own run.
        upstream: stage -> run id, of every stage before.
        parent: the run that further runs (members) are nested below.
        checkpoints: folder of what a killed run left and its successor goes on from; removed when the stage is done.
    """

    config: StageConfig
    session: Session
    run: Run
    upstream: Mapping[str, str]
    parent: str
    checkpoints: Path

    @property
    def store(self) -> Store:
        """Return the store of the session."""
        return self.session.store

    @property
    def data(self) -> Dataset:
        """Return the data set that the parameters name."""
        return self.session.dataset(self.config)

    @cached_property
    def device(self) -> "torch.device":
        """Return the device that the parameters name."""
        from sensai.pipeline.devices import device_of

        return device_of(self.config)

    @property
    def base_model(self) -> "BaseModel":
        """Return the base model that the stage stands on, on the device."""
        return self.session.base_model(self.upstream["baseline"], self.device)

    def read(self, load: Callable[[Store, str], T], stage: str) -> T:
        """Load an object from the run of an earlier stage by a function; once a process."""
        return self.session.read(load, self.upstream[stage])

    @property
    def evaluation_batch(self) -> int:
        """Return the number of images in a forward pass without training."""
        return evaluation_batch(self.data.image_shape)

    def normalization(self, spec: "NetworkSpec") -> "Normalization":
        """Return the input normalisation that the parameters give, else the data set's, in the network's memory format.

        Raises:
            InputError: not one value a channel.
        """
        from sensai.data.batches import Normalization

        channels = self.data.image_shape[0]
        values = []
        for name, default in (("mean", self.data.mean), ("std", self.data.std)):
            given: tuple[float, ...] = getattr(self.config, name)
            if given and len(given) != channels:
                raise InputError(f"{name}={self.config.text(name)!r}: must be {channels} numbers, one a channel")
            values.append(given or default)
        mean, std = values
        return Normalization(mean, std, spec.memory_format)

    def example_images(self, spec: "NetworkSpec", count: int = 16) -> "torch.Tensor":
        """Return the first training images, normalised, on the device: float32 (count, C, H, W)."""
        import torch

        train = self.data.train
        images = torch.from_numpy(train.images[train.rows[:count]]).to(self.device)
        return self.normalization(spec)(images)

    def augmentation(self, value: str) -> "Augmentation":
        """Return the augmentation that a parameter names; `auto` suits the data set."""
        from sensai.data.batches import default_augmentation

        return default_augmentation(self.config.dataset) if value == "auto" else value  # type: ignore[return-value]


def evaluation_batch(image_shape: tuple[int, int, int]) -> int:
    """Return the number of images (C, H, W) in a forward pass without training."""
    _, height, width = image_shape
    return max(min(_EVALUATION_BATCH, _EVALUATION_PIXELS // (height * width)), 1)


def file_digest(path: str, parameter: str) -> str:
    """Return the SHA-256 of the file that a parameter names; empty where it names none.

    Raises:
        InputError: there is no such file.
    """
    if not path:
        return ""
    try:
        with regular_file(Path(path), parameter).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{parameter}={path!r}: there is no such file ({error.strerror})") from error
