"""The user's own networks, named as file or module and function."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sensai.errors import InputError
from sensai.evaluation import run_networks
from sensai.models.architecture_names import source_digest
from sensai.models.factory import NetworkSpec, build, check_output

NETWORK = """
from dataclasses import dataclass
from torch import nn

@dataclass
class Widths:
    hidden: int

class Net(nn.Module):
    def __init__(self, num_classes, widths):
        super().__init__()
        self.conv = nn.Conv2d(1, widths.hidden, 3, padding=1)
        self.fc = nn.Linear(widths.hidden, num_classes)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))

def make(num_classes, hidden=4):
    return Net(num_classes, Widths(hidden))

def fails(num_classes):
    raise RuntimeError("no\\nluck")

def gives_a_list(num_classes):
    return [num_classes]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(NETWORK)
    return path


def spec(arch: str, **arguments: Any) -> NetworkSpec:
    return NetworkSpec(arch, 3, 1, (8, 8), arguments)


def test_the_function_is_called_with_the_classes_and_the_arguments(file: Path) -> None:
    network = build(spec(f"{file}:make", hidden=6))
    assert isinstance(network, nn.Module)
    assert (network.conv.out_channels, network.fc.out_features) == (6, 3)
    assert type(build(spec(f"{file}:make"))) is type(network)


def test_a_module_of_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "own_networks_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "layers.py").write_text("WIDTH = 5\n")
    (package / "nets.py").write_text("from .layers import WIDTH\n" + NETWORK.replace("hidden=4", "hidden=WIDTH"))
    monkeypatch.chdir(tmp_path)
    assert build(spec("own_networks_package.nets:make")).conv.out_channels == 5


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("fails", {}, "the function failed .*luck"),
        ("make", {"width": 3}, "the function failed .*width"),
        ("gives_a_list", {}, r"the function gave list, not a torch\.nn\.Module"),
        ("absent", {}, "defines no function 'absent'"),
    ],
)
def test_what_cannot_be_built_is_one_clear_line(file: Path, name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"arch='{file}:{name}': .*{message}") as caught:
        build(spec(f"{file}:{name}", **arguments))
    assert "\n" not in str(caught.value)


def test_a_file_that_changed_under_the_weights_is_refused(file: Path) -> None:
    arch = f"{file}:make"
    kept = NetworkSpec(arch, 3, 1, (8, 8), {}, source_digest(arch))
    assert isinstance(build(kept), nn.Module)
    file.write_text(NETWORK.replace(".relu()", ".abs()"))
    with pytest.raises(InputError, match="not the one that this network was trained with"):
        build(kept)
    assert source_digest(arch) != kept.source
    assert source_digest("resnet20") == source_digest("torchvision:resnet18") == ""


class _Given(nn.Module):
    """Returns the value that it was made with for every batch."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Any:
        self.norm(x)
        return self.answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (torch.zeros(2, 4), r"gives shape \(2, 4\) for 2 images, not \(2, 3\)"),
        (torch.zeros(3), r"gives shape \(3,\)"),
        ((torch.zeros(2, 3), torch.zeros(2, 3)), "gives tuple"),
    ],
)
def test_a_network_must_give_one_logit_a_class(answer: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_output(_Given(answer), spec("nets.py:make"))


def test_a_network_must_take_the_images() -> None:
    with pytest.raises(InputError, match=r"takes no images of shape \(1, 8, 8\) \(RuntimeError"):
        check_output(nn.Conv2d(3, 3, 3), spec("nets.py:make"))


def test_checking_changes_nothing() -> None:
    network = _Given(torch.zeros(2, 3))
    state = torch.get_rng_state()
    check_output(network, spec("nets.py:make"))
    assert network.training
    assert network.norm.num_batches_tracked == 0
    assert torch.equal(torch.get_rng_state(), state)


IN_PLACE = """
import torch
from torch import nn

class InPlace(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.fc(x.sub_(0.5).mul_(2).flatten(1))

# Its answer is a part of its input.
class View(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.unused, self.num_classes = nn.Linear(1, 1), num_classes

    def forward(self, x):
        return x.view(x.size(0), -1)[:, :self.num_classes]
"""


@pytest.mark.parametrize("name", ["InPlace", "View"])
def test_a_network_has_an_input_of_its_own(tmp_path: Path, name: str) -> None:
    (tmp_path / "nets.py").write_text(IN_PLACE)
    network = build(spec(f"{tmp_path}/nets.py:{name}")).eval()
    images = torch.rand(4, 1, 8, 8)
    given = images.clone()
    # Many members read the same batch.
    first, second = run_networks([network, network], [(images, torch.zeros(4))]).members
    assert torch.equal(images, given)
    assert np.array_equal(first, second)
    images.zero_()
    assert np.array_equal(first, second)
    assert first.any()
    exported = torch.export.export(network, (given,)).module()
    assert np.array_equal(exported(given).detach().numpy(), first)
    assert np.array_equal(exported(given).detach().numpy(), first)
