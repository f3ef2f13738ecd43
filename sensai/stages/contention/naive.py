"""Train and score as a script for one network does: a plain loop, torch's default threads, and a loader of its own whose
workers decode image by image. With several members, a script trains one after another.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from sensai.data.batches import Augmentation, Normalization, member_targets
from sensai.stages.contention.job import Job, load_base, load_images, load_labels, load_members
from sensai.stages.contention.work import Work, one_after_another, timed


def training(folder: Path, job: Job, numbers: Sequence[int]) -> Work:
    """Return the work of training the members for an epoch, one after another."""
    return one_after_another([_training(folder, job, number) for number in numbers])


def _training(folder: Path, job: Job, number: int) -> Work:
    """Return the work of training one member by itself."""
    ensemble, device = load_members(folder, [number]), torch.device(job.device)
    (member,), num_classes = ensemble.members, len(ensemble.class_names)
    network = member.network.to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        logits, targets = network(images), member_targets(labels, member.classes, num_classes)
        if logits.shape[1] == 1:
            loss = F.binary_cross_entropy_with_logits(logits[:, 0], targets.float())
        else:
            loss = F.cross_entropy(logits, targets)
        loss.backward()
        optimizer.step()

    transform = transform_of(job, ensemble.normalization, job.augmentation)

    def epoch(count: int) -> DataLoader:
        pictures = Pictures(folder, job, count, transform)
        # Batch norm needs two images.
        one_is_left = count % job.batch_size == 1
        return DataLoader(pictures, job.batch_size, shuffle=True, num_workers=job.workers, drop_last=one_is_left)

    return lambda count: timed(epoch(count), device, step)


def scoring(folder: Path, job: Job, numbers: Sequence[int]) -> Work:
    """Return the work of a plain forward pass of the base model for each number; counting anything would take longer."""
    normalization, device = load_members(folder, numbers).normalization, torch.device(job.device)
    network = load_base(folder).to(device)
    transform = transform_of(job, normalization, "none")

    @torch.no_grad()
    def step(images: Tensor, _labels: Tensor) -> None:
        network(images)

    def batches(count: int) -> DataLoader:
        return DataLoader(Pictures(folder, job, count, transform), job.scoring_batch, num_workers=job.workers)

    return one_after_another([lambda count: timed(batches(count), device, step)] * len(numbers))


def threads(job: Job, _task: str, _numbers: Sequence[int]) -> int:
    """Return the number of threads and workers of a process."""
    return torch.get_num_threads() + job.workers


class Pictures(Dataset):
    """The first images, decoded and transformed one by one."""

    def __init__(self, folder: Path, job: Job, count: int, transform: Callable[[Image.Image], Tensor]) -> None:
        self._labels = load_labels(folder)[:count]
        self._source = job.files or load_images(folder)
        self._mode = "L" if job.image_shape[0] == 1 else "RGB"
        self._transform = transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self._transform(_picture(self._source[row], self._mode)), int(self._labels[row])


def _picture(source: object, mode: str) -> Image.Image:
    if isinstance(source, str):
        return Image.open(source).convert(mode)
    return transforms.functional.to_pil_image(torch.tensor(source))


def transform_of(job: Job, normalization: Normalization, augmentation: Augmentation) -> Callable[[Image.Image], Tensor]:
    """Return the transform of a decoded image to float32 (C, H, W), augmented and normalised as the engine's batches are."""
    _, height, width = job.image_shape
    steps: list[object] = []
    if job.files:
        steps += [transforms.Resize(max(height, width)), transforms.CenterCrop((height, width))]
    if augmentation != "none":
        steps.append(transforms.RandomCrop((height, width), padding=max(height // 8, 1)))
    if augmentation == "crop_flip":
        steps.append(transforms.RandomHorizontalFlip())
    steps += [transforms.ToTensor(), transforms.Normalize(normalization.mean, normalization.std)]
    return transforms.Compose(steps)
