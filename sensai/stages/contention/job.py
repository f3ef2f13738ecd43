"""Store what is trained and scored in a folder that every process of the experiment reads. N images."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import nn

from sensai.data.batches import Augmentation
from sensai.data.dataset import Split
from sensai.data.streaming import ImageFiles, Images, in_chunks
from sensai.ensemble import Ensemble, load_ensemble, save_ensemble
from sensai.files import make_folder, write_array, write_text
from sensai.models.storage import load_network, save_network

_JOB, _IMAGES, _LABELS, _BASE = "job.json", "images.npy", "labels.npy", "base"


@dataclass(frozen=True)
class Job:
    """The settings by which the images are trained and scored with.

    Attributes:
        image_shape: (C, H, W) that the networks take.
        batch_size: images a training step.
        scoring_batch: images a forward pass of scoring.
        workers: of each naive loader.
        augmentation: of the training images.
        device: as torch names it.
        jobs: workers of the engine; None: one a core.
        threads: of each worker; None: the cores dealt out.
        files: the image files that naive processes decode; None: they take each image from the array.
    """

    image_shape: tuple[int, int, int]
    batch_size: int
    scoring_batch: int
    workers: int
    augmentation: Augmentation
    device: str
    jobs: int | None = None
    threads: int | None = None
    files: list[str] | None = None


def save_job(job: Job, folder: Path, images: Split, base: nn.Module, ensemble: Ensemble, count: int) -> None:
    """Write all that the processes read.

    Args:
        job: the settings.
        folder: made here.
        images: each training and each scoring sees all of them.
        base: the network that scores.
        ensemble: the members that are trained; they are repeated where there are fewer than `count`.
        count: how many trainings there are at most.

    Raises:
        StorageError: they cannot be written.
    """
    make_folder(folder, "work_dir")
    if not isinstance(images.images, ImageFiles):
        shape = images.images.shape[1:]
        chunks = images.read(in_chunks(images.rows, shape))
        write_array(folder / _IMAGES, (len(images), *shape), np.uint8, chunks)
    write_array(folder / _LABELS, images.labels.shape, np.int64, [images.labels])
    save_network(base, ensemble.spec, folder / _BASE)
    for number in range(count):
        # Each member lies by itself, so that a process reads no more than it trains.
        member = ensemble.members[number % len(ensemble.members)]
        alone = Ensemble([member], ensemble.class_names, ensemble.spec, ensemble.normalization)
        save_ensemble(alone, folder / str(number))
    write_text(folder / _JOB, json.dumps(asdict(job)))


def load_job(folder: Path) -> Job:
    """Return the settings of a saved job."""
    values = json.loads((folder / _JOB).read_text())
    channels, height, width = values["image_shape"]
    return Job(**{**values, "image_shape": (channels, height, width)})


def load_labels(folder: Path) -> np.ndarray:
    """Return the labels: int64 (N,)."""
    return np.load(folder / _LABELS, allow_pickle=False)


def load_images(folder: Path) -> np.ndarray:
    """Return the mapped images: uint8 (N, C, H, W); there is no such file where images are streamed."""
    return np.load(folder / _IMAGES, "r", allow_pickle=False)


def is_decoded(folder: Path) -> bool:
    """Return True if the job has an array of its images; otherwise it has files only."""
    return (folder / _IMAGES).exists()


def load_split(folder: Path, job: Job, count: int) -> Split:
    """Return the first images as the data set has them: mapped if it is decoded, otherwise to be decoded by threads."""
    return _split(folder, load_images(folder), count) if is_decoded(folder) else load_files(folder, job, count)


def load_files(folder: Path, job: Job, count: int) -> Split:
    """Return the first images of a job that has files; threads decode them as they are read."""
    return _split(folder, ImageFiles(Path(), job.files or [], job.image_shape), count)


def _split(folder: Path, images: Images, count: int) -> Split:
    labels = load_labels(folder)
    return Split(images, labels, np.arange(len(labels))[:count])


def load_members(folder: Path, numbers: Sequence[int]) -> Ensemble:
    """Return some members as one ensemble."""
    alone = [load_ensemble(folder / str(number)) for number in numbers]
    members = [each.members[0] for each in alone]
    return Ensemble(members, alone[0].class_names, alone[0].spec, alone[0].normalization)


def load_base(folder: Path) -> nn.Module:
    """Return the network that scores, in eval mode."""
    return load_network(folder / _BASE)[0]
