"""A network in memory and loaders of float tensors, as users of the Python interface have them."""

from collections.abc import Iterator
from functools import lru_cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

CLASSES = 10


class DigitsNet(nn.Module):
    """Three convolutions for 8x8 grey images."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*self._block(1, 16), *self._block(16, 32), nn.MaxPool2d(2), *self._block(32, 32))
        self.head = nn.Linear(32, CLASSES)

    @staticmethod
    def _block(into: int, out: int) -> Iterator[nn.Module]:
        return iter([nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


@lru_cache(maxsize=1)
def digits() -> dict[str, tuple[Tensor, Tensor]]:
    """Return split -> images float32 (N, 1, 8, 8) from 0 to 1 and labels, of scikit-learn's digits."""
    bunch = load_digits()
    order = torch.randperm(len(bunch.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(bunch.images, dtype=torch.float32)[order].unsqueeze(1) / 16
    labels = torch.tensor(bunch.target)[order]
    edges = {"train": slice(0, 600), "val": slice(600, 800), "test": slice(800, 1200)}
    return {name: (images[part], labels[part]) for name, part in edges.items()}


def loader(split: str, batch_size: int = 50) -> DataLoader:
    """Return a loader of a split; that of the training split shuffles."""
    return DataLoader(TensorDataset(*digits()[split]), batch_size, shuffle=split == "train")


@lru_cache(maxsize=1)
def _trained() -> dict[str, Tensor]:
    images, labels = digits()["train"]
    torch.manual_seed(0)
    network = DigitsNet()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(6):
        for rows in torch.randperm(len(images)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
            optimizer.step()
    return network.state_dict()


def trained() -> DigitsNet:
    """Return a trained network of its own for each caller."""
    network = DigitsNet()
    network.load_state_dict(_trained())
    return network.eval()
