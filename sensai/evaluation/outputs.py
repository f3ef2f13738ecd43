"""Outputs of networks on a split. N images, K classes, M members."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Outputs:
    """The outputs of networks on a split.

    Attributes:
        labels: int64 (N,).
        members: float32 (N, outputs) of each network.
    """

    labels: np.ndarray
    members: list[np.ndarray]


@torch.no_grad()
def run_networks(networks: Iterable[nn.Module], batches: Iterable[tuple[Tensor, Tensor]]) -> Outputs:
    """Return the outputs of every network on every batch of a split; each batch is made once."""
    networks = [network.eval() for network in networks]
    labels: list[np.ndarray] = []
    collected: list[list[np.ndarray]] = [[] for _ in networks]
    for images, batch_labels in batches:
        labels.append(batch_labels.cpu().numpy())
        for network, parts in zip(networks, collected, strict=True):
            parts.append(network(images).float().cpu().numpy())
    return Outputs(np.concatenate(labels), [np.concatenate(parts) for parts in collected])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the class probabilities of a K-way network, float64 (N, K)."""
    return torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy()
