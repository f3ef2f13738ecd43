"""On a GPU, captured passes train like passes launched one by one, from images in its memory."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from sensai.data.batches import Normalization, OnDeviceDataset, batches, on_device_dataset, training_batches
from sensai.data.dataset import Split
from sensai.training.captured import captured
from sensai.training.joint_trainer import JointLogits
from sensai.training.objectives import Objective
from sensai.training.precision import Precision, autocast
from tests.helpers.networks import make

GPU = torch.device("cuda")
NORMALIZATION = Normalization((0.5,), (0.25,))
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def split() -> Split:
    """Return 100 images, of which every other row belongs to the split: batches of 16 leave one of 2."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (100, 1, 8, 8), np.uint8)
    return Split(images, random.integers(0, 5, 100), np.arange(0, 100, 2))


def test_elsewhere_nothing_is_captured_or_moved() -> None:
    model, _ = make("small_cnn", seed=0)
    assert captured(model, torch.device("cpu")) is model
    assert on_device_dataset(own := split(), torch.device("cpu")) is own


@needs_gpu
def test_a_resident_split_gives_the_same_batches() -> None:
    there = on_device_dataset(split(), GPU)
    assert isinstance(there, OnDeviceDataset)
    assert there.images.is_cuda
    arguments = {"augmentation": "crop_flip", "seed": 3}
    for made in (batches, partial(training_batches, epoch=2, **arguments)):
        own = list(made(split(), 16, NORMALIZATION, GPU))
        others = list(made(there, 16, NORMALIZATION, GPU))
        assert len(own) == len(others) == 4
        for (images, labels), (their_images, their_labels) in zip(own, others, strict=True):
            assert torch.equal(images, their_images)
            assert torch.equal(labels, their_labels)


def trained(model: torch.nn.Module, precision: Precision, objective: Objective) -> list[Tensor]:
    """Return the losses of the steps of two epochs."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for epoch in range(2):
        model.train()
        data = on_device_dataset(split(), GPU)
        for images, labels in training_batches(data, 16, NORMALIZATION, GPU, epoch, augmentation="crop", seed=0):
            optimizer.zero_grad(set_to_none=True)
            with autocast(precision, GPU):
                logits = model(images)
            loss = objective.loss(logits.float(), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        model.eval()
    return losses


@needs_gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 3e-2)])
def test_captured_members_train_as_others_do(precision: Precision, tolerance: float) -> None:
    groups = [(0, 1, 4), (2, 3)]
    members = [make("small_cnn", num_classes=1 + len(group))[0].to(GPU) for group in groups]
    own = JointLogits(members, [0, 1], groups, 5)
    other = copy.deepcopy(own)
    before = [buffer.clone() for buffer in other.buffers()]
    graphs = captured(other, GPU)
    losses = trained(own, precision, Objective.multiclass(5))
    losses_captured = trained(graphs, precision, Objective.multiclass(5))
    torch.testing.assert_close(losses_captured, losses, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(
        list(other.state_dict().values()), list(own.state_dict().values()), **{"atol": tolerance, "rtol": tolerance}
    )
    images = next(batches(split(), 16, NORMALIZATION, GPU))[0]
    with torch.no_grad():
        assert torch.equal(graphs(images), other(images))
    assert any(not torch.equal(buffer, old) for buffer, old in zip(other.buffers(), before, strict=True))
