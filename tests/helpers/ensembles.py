"""Small ensembles for the registry, and what they answer."""

import numpy as np
import torch

from sensai.data.batches import Normalization
from sensai.ensemble import Ensemble, Member
from sensai.models.factory import NetworkSpec, build
from tests.helpers.networks import randomise

NAMES = ("zero", "one", "two", "three")
SHAPE = (9, 8, 1)  # height, width, channels


def ensemble_of(groups: list[tuple[int, ...]]) -> Ensemble:
    """Members with random weights, every one other than the others."""
    height, width, channels = SHAPE
    members = []
    for number, classes in enumerate(groups):
        outputs = len(classes) + (1 < len(classes) < len(NAMES))
        torch.manual_seed(number)
        network = build(NetworkSpec("small_cnn", outputs, channels, (height, width)))
        members.append(Member(classes, randomise(network, number)))
    spec = NetworkSpec("small_cnn", len(NAMES), channels, (height, width))
    return Ensemble(members, NAMES, spec, Normalization((0.3,), (0.2,))).eval()


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def probabilities(ensemble: Ensemble, batch: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return ensemble(ensemble.normalization(torch.from_numpy(batch.transpose(0, 3, 1, 2)))).numpy()


def outputs_of(ensemble: Ensemble, batch: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        logits = ensemble.member_logits(ensemble.normalization(torch.from_numpy(batch.transpose(0, 3, 1, 2))))
    return [each.numpy() for each in logits]
