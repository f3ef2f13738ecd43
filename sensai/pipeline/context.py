"""What stages read again and again, once a process: the data set, the device, and earlier stages' results."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path

import torch

from sensai.cluster.cores import share_cores
from sensai.config import RetrainConfig, StageConfig
from sensai.config.parameter_types import parse_channel_values
from sensai.data.batches import Augmentation, Normalization, default_augmentation
from sensai.data.dataset import Dataset, load_dataset
from sensai.data.dataset_names import FOLDER, InputRule
from sensai.errors import InputError
from sensai.files import regular_file
from sensai.models.channels import takes_grey_alone
from sensai.models.factory import NetworkSpec, input_rule, is_own, source_digest

# A forward pass where nothing is trained takes so many images, and fewer where these would have more pixels: 20 of 224 x 224.
_EVALUATION_BATCH = 256
_EVALUATION_PIXELS = 2**20


def dataset_of(config: StageConfig) -> Dataset:
    """The data set that the parameters name."""
    return _dataset(
        config.dataset,
        config.data_dir,
        config.work_dir,
        _rule(config),
        config.image_size,
        config.val_fraction,
        config.split_seed,
    )


@lru_cache(maxsize=2)
def _dataset(
    name: str,
    data_dir: str,
    work_dir: str,
    rule: InputRule,
    image_size: int | None,
    val_fraction: float,
    split_seed: int,
) -> Dataset:
    return load_dataset(
        name,
        data_dir,
        work_dir=Path(work_dir),
        rule=rule,
        image_size=image_size,
        val_fraction=val_fraction,
        split_seed=split_seed,
    )


def _rule(config: StageConfig) -> InputRule:
    """What the network asks of its input; of the user's own, whether it takes a folder's images as grey ones."""
    rule = input_rule(config.arch)
    if config.dataset != FOLDER or not is_own(config.arch):
        return rule
    grey = _takes_grey_alone(config.arch, config.arch_args, source_digest(config.arch))
    return rule._replace(channels=1) if grey else rule


@lru_cache(maxsize=2)
def _takes_grey_alone(arch: str, arch_args: str, _source: str) -> bool:
    return takes_grey_alone(arch, json.loads(arch_args) if arch_args else {})


def device_of(config: StageConfig) -> torch.device:
    """The device that the parameters name; `auto` is the GPU where there is one.

    Raises:
        InputError: a GPU that this machine does not have.
    """
    available = torch.cuda.device_count()
    if config.device == "auto":
        return torch.device("cuda" if available else "cpu")
    device = torch.device(config.device)
    if device.type == "cuda" and (device.index or 0) >= available:
        raise InputError(f"device={config.device!r}: this machine has {available} GPUs; auto or cpu always works")
    return device


def worker_devices(config: RetrainConfig, members: int) -> tuple[list[torch.device], int]:
    """The device of each worker that members are dealt to, and the threads that it computes with."""
    device = device_of(config)
    if device.type == "cpu":
        jobs, devices = config.jobs, [device]
    else:
        devices = (
            [torch.device("cuda", n) for n in range(torch.cuda.device_count())] if config.device == "auto" else [device]
        )
        jobs = config.jobs or len(devices)
    jobs, threads = share_cores(members, jobs, config.threads)
    return [devices[n % len(devices)] for n in range(jobs)], threads


def normalization_of(config: StageConfig, spec: NetworkSpec) -> Normalization:
    """The input normalisation that the parameters give, else the data set's, in the memory format of the network.

    Raises:
        InputError: not one value a channel.
    """
    data = dataset_of(config)
    channels = data.image_shape[0]
    values = []
    for name, default in (("mean", data.mean), ("std", data.std)):
        given = parse_channel_values(getattr(config, name))
        if given is not None and len(given) != channels:
            raise InputError(f"{name}={getattr(config, name)!r}: must be {channels} numbers, one a channel")
        values.append(given or default)
    mean, std = values
    return Normalization(mean, std, spec.memory_format)


def network_spec_of(config: StageConfig) -> NetworkSpec:
    """The base model's architecture for this data set."""
    data = dataset_of(config)
    channels, height, width = data.image_shape
    arguments = json.loads(config.arch_args) if config.arch_args else {}
    source = source_digest(config.arch)
    return NetworkSpec(config.arch, len(data.class_names), channels, (height, width), arguments, source)


def evaluation_batch(config: StageConfig) -> int:
    """Images a forward pass where nothing is trained."""
    _, height, width = dataset_of(config).image_shape
    return max(min(_EVALUATION_BATCH, _EVALUATION_PIXELS // (height * width)), 1)


def augmentation_of(value: str, config: StageConfig) -> Augmentation:
    """The augmentation that a parameter names; `auto` suits the data set."""
    return default_augmentation(config.dataset) if value == "auto" else value  # type: ignore[return-value]


def example_images(config: StageConfig, spec: NetworkSpec, count: int = 16) -> torch.Tensor:
    """The first training images, normalised, on the device: float32 (count, C, H, W)."""
    data = dataset_of(config)
    images = torch.from_numpy(data.train.images[data.train.rows[:count]]).to(device_of(config))
    return normalization_of(config, spec)(images)


def file_digest(path: str, parameter: str) -> str:
    """SHA-256 of the file that a parameter names; empty where it names none.

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
