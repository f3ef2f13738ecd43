"""Users' networks that take only grey images."""

from pathlib import Path

import pytest
import torch

from sensai.models.channels import takes_grey_alone

NETWORKS = """
import torch
from torch import nn

def grey(num_classes, side=8):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * (side - 2) ** 2, num_classes))

def colour(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))

class Luminance(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layers = grey(num_classes, side=64)

    def forward(self, x):
        return self.layers(x.mean(1, keepdim=True))

def linear(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

def failing(num_classes):
    raise ValueError
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [("grey", True), ("colour", False), ("Luminance", False), ("linear", False), ("failing", False)],
)
def test_the_first_convolution_tells_unless_colour_is_taken_too(tmp_path: Path, name: str, expected: bool) -> None:
    (tmp_path / "nets.py").write_text(NETWORKS)
    before = torch.random.get_rng_state()
    assert takes_grey_alone(f"{tmp_path}/nets.py:{name}", {}) is expected
    # Later networks still get the same initial weights.
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_networks_arguments_are_handed_over(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETWORKS)
    assert takes_grey_alone(f"{tmp_path}/nets.py:grey", {"side": 28})
    assert not takes_grey_alone(f"{tmp_path}/nets.py:grey", {"unknown": 28})
