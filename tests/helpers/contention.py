"""A small job for the processes of the contention experiment: three binary members of small_cnn on 8x8 grey images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from sensai.data.batches import Normalization
from sensai.data.dataset import Split
from sensai.ensemble.building import build_ensemble
from sensai.sites import find_sites
from sensai.stages.contention.job import Job, save_job
from tests.helpers.networks import images_for, make
from tests.helpers.tiny_data import tiny

JOB = Job((1, 8, 8), batch_size=16, scoring_batch=16, workers=1, augmentation="crop", device="cpu")


def split(count: int) -> Split:
    """Return so many of the tiny images, repeated if there are more than 96."""
    images, labels = tiny("")["train"]
    rows = np.arange(count) % len(images)
    return Split(images[rows][:, None], labels[rows], np.arange(count))


def write_files(images: Split, folder: Path) -> list[str]:
    """Write each image as a grey PNG file; return their paths."""
    paths = [str(folder / f"{row}.png") for row in range(len(images))]
    for path, pixels in zip(paths, images.images[images.rows], strict=True):
        Image.fromarray(pixels[0]).save(path)
    return paths


def save(folder: Path, images: Split, *, members: int = 2, **other: object) -> Path:
    """Write a job with other values than those of `JOB`, and return its folder."""
    model, spec = make("small_cnn", num_classes=3)
    sites = find_sites(model, images_for(spec, 2))
    plan = {site.name: np.arange(site.channels // 2) for site in sites.sites}
    plans = [((label,), plan) for label in range(3)]
    ensemble = build_ensemble(model, spec, sites, plans, ("a", "b", "c"), Normalization((0.5,), (0.25,)))
    save_job(replace(JOB, **other), folder, images, model, ensemble, members)
    return folder
