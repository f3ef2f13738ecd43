"""Users' networks, from the command's parameters to the logged model."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sensai.errors import InputError, UnreachableTargetError
from sensai.pipeline.base_model import load_base_model
from sensai.stages import activations, baseline, evaluate, prune, register, retrain
from sensai.tracking import Store
from tests.conftest import Entry
from tests.entrypoints.test_bad_input import assert_refused
from tests.helpers.pipeline import Place

NETWORK = '''
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

def make(num_classes, hidden=4):
    return nn.Sequential(nn.Conv2d(1, hidden, 3), nn.ReLU(), nn.Flatten(), nn.Linear(hidden * 36, num_classes))

def coloured(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, num_classes))

def linear(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

class Added(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, num_classes)

    def forward(self, x):
        x = self.first(x).relu()
        return self.head((x + self.second(x)).mean((2, 3)))

class Blocks(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6),
            )
            for _ in range(2)
        )
        self.head = nn.Linear(6, num_classes)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = (x + block(x)).relu()
        return self.head(x.mean((2, 3)))

class Modern(nn.Module):
    """Lazy layers, weight norms up to the head, a slope a channel, and blocks of no_grad and autocast."""

    def __init__(self, num_classes):
        super().__init__()
        self.stem = weight_norm(nn.Conv2d(1, 6, 3, padding=1))
        self.norm, self.act = nn.LazyBatchNorm2d(), nn.PReLU(6)
        self.body, self.head = nn.LazyConv2d(8, 3), weight_norm(nn.Linear(8, num_classes))

    def forward(self, x):
        with torch.no_grad():
            x = x * 2
        with torch.autocast("cpu", enabled=False):
            x = self.act(self.norm(self.stem(x)))
        return self.head(self.body(x).relu().mean((2, 3)))

def dropping(num_classes):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), Dropping(), nn.Linear(144, num_classes))

class Dropping(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x)

def frozen(num_classes):
    return make(num_classes).requires_grad_(False)

def empty(num_classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d((1, num_classes)), nn.Flatten())

# Relies on what plain PyTorch gives: maps that lie in memory as they are indexed, and an input of its own.
class Plain(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 6, 3)
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(6 * 36, num_classes)

    def forward(self, x):
        x.mul_(2).sub_(0.5)
        x = self.norm(self.first(x)).relu_()
        if not x.is_contiguous():
            raise ValueError("not contiguous")
        x = self.drop(self.second(x).relu_())
        return self.head(x.view(x.size(0), -1))
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(NETWORK)
    return path


def test_an_edited_network_is_not_answered_from_the_cache(place: Place, file: Path) -> None:
    def run() -> str:
        return baseline.run(place.config("baseline", arch=f"{file}:make", arch_args='{"hidden": 6}', base_epochs=0))

    first = run()
    assert run() == first
    file.write_text(NETWORK.replace("ReLU", "SiLU"))
    second = run()
    assert second != first
    assert place.run(first).data.metrics["params"] == 6 * 10 + 3 * (6 * 36 + 1)
    with pytest.raises(InputError, match="run baseline"):
        load_base_model(Store.connect(), first)
    network, spec = load_base_model(Store.connect(), second)
    assert isinstance(network[1], torch.nn.SiLU)
    assert spec.arch_args == {"hidden": 6}


def test_the_name_of_a_run_does_not_hold_the_path(place: Place, file: Path) -> None:
    run = place.run(baseline.run(place.config("baseline", arch=f"{file}:make", base_epochs=0)))
    assert run.info.run_name == "baseline nets.py:make tiny_data.py:tiny"
    assert run.data.tags["sensai.arch"] == f"{file}:make"


def test_a_network_of_torchvision_takes_images_smaller_than_its_own(place: Place) -> None:
    config = place.config("baseline", arch="torchvision:squeezenet1_1", image_size=33, base_epochs=0)
    _, spec = load_base_model(Store.connect(), baseline.run(config))
    assert spec.input_shape == (3, 33, 33)
    with pytest.raises(InputError, match="image_size=16: the network takes 17 and more"):
        baseline.run(place.config("baseline", arch="torchvision:squeezenet1_1", image_size=16))


def test_keys_of_a_checkpoint_are_renamed(place: Place, file: Path) -> None:
    arch = {"arch": f"{file}:make", "base_epochs": 0}
    weights = {"body.0.weight": (4, 1, 3, 3), "body.0.bias": (4,), "head.weight": (3, 144), "head.bias": (3,)}
    save_file({key: torch.rand(shape) for key, shape in weights.items()}, place.folder / "weights.safetensors")
    checkpoint = str(place.folder / "weights.safetensors")
    with pytest.raises(InputError, match=r"first missing '0\.bias'; first unexpected 'body\.0\.bias'"):
        baseline.run(place.config("baseline", **arch, checkpoint=checkpoint))
    with pytest.raises(InputError, match="rename='heed=3': no key of"):
        baseline.run(place.config("baseline", **arch, checkpoint=checkpoint, rename="body=,heed=3"))
    run_id = baseline.run(place.config("baseline", **arch, checkpoint=checkpoint, rename="body.=,head=3"))
    network, _ = load_base_model(Store.connect(), run_id)
    assert torch.equal(network[3].weight, load_file(checkpoint)["head.weight"])
    assert torch.equal(network[0].bias, load_file(checkpoint)["body.0.bias"])


def test_a_network_without_removable_channels_is_refused_with_the_reason(place: Place, file: Path) -> None:
    with pytest.raises(InputError, match=r"arch='.*:linear': has no channels that can be removed \(no layer but"):
        activations.run(place.config("activations", arch=f"{file}:linear", base_epochs=0))
    with pytest.raises(
        InputError, match=r"has no channels that can be removed \(first: .*added to those of 1 other layer\)"
    ):
        prune.run(place.config("prune", arch=f"{file}:Added", base_epochs=0))
    prune.run(place.config("prune", arch=f"{file}:Added", base_epochs=0, scope="all"))


def test_whole_blocks_may_go_from_plan_to_evaluation(place: Place, file: Path) -> None:
    # A twentieth of the FLOPs is less than what one channel in each of both blocks costs.
    cut = {"arch": f"{file}:Blocks", "target_flops": 0.05, "criterion": "mean", "cut_steps": 2}
    with pytest.raises(UnreachableTargetError, match="min_channels=1"):
        prune.run(place.config("prune", **{name: cut[name] for name in ("arch", "target_flops", "criterion")}))
    trained = retrain.run(place.config("retrain", min_channels=0, loss="joint", **cut))
    (pruned,) = (run for run in place.of("prune") if run.info.status == "FINISHED")
    assert pruned.data.metrics["flops_max"] <= 0.05 * pruned.data.metrics["flops_base"]
    assert pruned.data.metrics["proof_error"] < 1e-5
    layers = pd.read_csv(place.artifact(pruned.info.run_id, "layers.csv"))
    assert layers["kept"].tolist() == [0] * len(layers)
    evaluated = place.run(evaluate.run(place.config("evaluate", from_run=trained)))
    assert evaluated.data.metrics["flops_speedup"] > 20


@pytest.mark.long
def test_lazy_layers_weight_norms_slopes_and_blocks_from_training_to_evaluation(place: Place, file: Path) -> None:
    evaluated = place.run(evaluate.run(place.config("evaluate", arch=f"{file}:Modern", base_epochs=2, ratio=0.5)))
    (pruned,) = place.of("prune")
    layers = pd.read_csv(place.artifact(pruned.info.run_id, "layers.csv"))
    assert {*layers["site"]} == {"stem", "body"}
    assert pruned.data.metrics["proof_error"] < 1e-5
    assert evaluated.data.metrics["flops_speedup"] > 1
    (base,) = place.of("baseline")
    network, _ = load_base_model(Store.connect(), base.info.run_id)
    # The weight norms trained, and left plain weights behind.
    assert {name.rpartition(".")[2] for name in network.state_dict()} <= {
        *("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }


@pytest.mark.parametrize(
    ("name", "epochs", "message"),
    [
        ("dropping", 0, "differ from call to call"),
        ("empty", 0, "has no parameters"),
        ("frozen", 1, "base_epochs=1: no parameter of the network is trained"),
    ],
)
def test_networks_that_cannot_be_used_are_refused_when_adopted(
    place: Place, file: Path, name: str, epochs: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        baseline.run(place.config("baseline", arch=f"{file}:{name}", base_epochs=epochs))


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"criterion": "taylor", "precision": "auto"}, id="each", marks=pytest.mark.long),
        pytest.param({"loss": "joint_kd", "cut_steps": 2, "scope": "all"}, id="joint"),
    ],
)
@pytest.mark.long
def test_what_plain_pytorch_gives_a_network_it_gets_in_every_stage(
    place: Place, file: Path, how: dict[str, str]
) -> None:
    # `auto` measures all runtimes, each of which must answer as the network does.
    run_id = register.run(place.config("register", arch=f"{file}:Plain", ratio=0.5, runtime="auto", **how))
    (base,) = place.of("baseline")
    network, spec = load_base_model(Store.connect(), base.info.run_id)
    assert not spec.channels_last
    (pruned,), (evaluated,) = (place.of(stage) for stage in ("prune", "evaluate"))
    assert pruned.data.metrics["proof_error"] < 1e-5
    assert pruned.data.metrics["channels_kept"] == pytest.approx(0.5, abs=0.1)
    assert evaluated.data.metrics["accuracy"] == 1
    assert place.run(run_id).data.metrics["version"] == 1
    images = torch.rand(4, 1, 8, 8)
    given = images.clone()
    network(images)
    assert torch.equal(images, given)


@pytest.mark.parametrize(("name", "channels"), [("make", 1), ("coloured", 3)])
def test_a_folder_of_grey_images_has_the_channels_that_the_network_takes(
    place: Place, file: Path, tmp_path: Path, name: str, channels: int
) -> None:
    for label in range(3):
        folder = tmp_path / "grey" / "train" / str(label)
        folder.mkdir(parents=True)
        for number in range(4):
            Image.new("L", (8, 8), 80 * label + number).save(folder / f"{number}.png")
    grey = {"dataset": "imagefolder", "data_dir": f"{tmp_path}/grey", "base_epochs": 0}
    run_id = baseline.run(place.config("baseline", arch=f"{file}:{name}", **grey))
    _, spec = load_base_model(Store.connect(), run_id)
    assert spec.in_channels == channels
    if channels == 1:
        Image.fromarray(np.full((8, 8, 3), (9, 8, 7), np.uint8)).save(tmp_path / "grey" / "train" / "1" / "red.png")
        with pytest.raises(InputError, match=r"1/red\.png' is coloured, and the network takes 1 channel"):
            baseline.run(place.config("baseline", arch=f"{file}:{name}", work_dir=f"{tmp_path}/other", **grey))


def test_near_names_include_those_of_torchvision(launched: Entry) -> None:
    assert_refused(launched("baseline", arch="resnet18"), "arch='resnet18'", "did you mean torchvision:resnet18 or")
