"""Storage of networks of any width."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sensai.models.architecture_names import source_digest
from sensai.models.factory import NetworkSpec, build
from sensai.models.storage import SPEC_FILE, WEIGHTS_FILE, load_network, save_network
from sensai.models.widths import load_narrow, set_layer_widths, widths
from sensai.pruning import member_network, prune
from tests.conftest import ROOT
from tests.helpers.networks import images_for, make, randomise, sites_of


@pytest.mark.parametrize(
    ("arch", "arch_args"),
    [
        ("small_cnn", {}),
        ("vgg11_bn", {}),
        ("resnet20", {"block": "bottleneck"}),
        ("resnet20", {"shortcut": "parameter_free"}),
        ("mobilenetv2", {}),
    ],
)
def test_an_irregular_network_comes_back_bit_for_bit(tmp_path: Path, arch: str, arch_args: dict[str, str]) -> None:
    network, spec = make(arch, arch_args)
    images = images_for(spec, 3)
    sites = sites_of(arch, arch_args)
    plan = {site.name: np.arange(position % site.channels) for position, site in enumerate(sites.sites)}
    # The last block is emptied, if one may be.
    plan |= {site.name: np.arange(site.channels) for site in sites.sites if site.name in list(sites.branches)[-2:]}
    narrow = member_network(network, sites, plan, (4, 1), 10)
    save_network(narrow, spec, tmp_path / "net")
    loaded, loaded_spec = load_network(tmp_path / "net")
    assert loaded_spec == spec
    assert widths(loaded) == widths(narrow) != widths(network)
    assert loaded.state_dict().keys() == narrow.state_dict().keys()
    for name, value in narrow.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
        assert loaded.state_dict()[name].dtype == value.dtype
    assert not any(module.training for module in loaded.modules())
    with torch.no_grad():
        assert torch.equal(loaded(images), narrow(images))


def test_weights_without_the_constants_of_shortcuts_are_read_too(tmp_path: Path) -> None:
    network, spec = make("resnet20", {"shortcut": "parameter_free"})
    save_network(network, spec, tmp_path)
    tensors, path = load_file(tmp_path / WEIGHTS_FILE), tmp_path / SPEC_FILE
    description = json.loads(path.read_text())
    for shortcut in ("layer2.0.shortcut", "layer3.0.shortcut"):
        del tensors[f"{shortcut}.weight"], description["widths"][shortcut]
    save_file(tensors, tmp_path / WEIGHTS_FILE)
    path.write_text(json.dumps(description))
    loaded, _ = load_network(tmp_path)
    images = images_for(spec, 3)
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))


_NETS = """
from torch import nn

def make(num_classes, hidden):
    shared = nn.Conv2d(hidden, hidden, 1)
    layers = [nn.Conv2d(3, hidden, 3), nn.BatchNorm2d(hidden), shared, nn.Hardswish(), shared, nn.Hardswish()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(hidden, num_classes))
"""

_READ = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from sensai.models.storage import load_network

torch.set_num_threads(1)
for folder in map(Path, sys.argv[1:]):
    network, spec = load_network(folder)
    images = torch.ones(2, *spec.input_shape)
    with torch.no_grad():
        read = {"logits": network(images)} | {key: value.clone() for key, value in network.state_dict().items()}
    save_file(read, folder / "read.safetensors")
"""


@pytest.mark.processes
def test_networks_of_others_come_back_in_a_fresh_process(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(_NETS)
    arches = {
        "file": (f"{tmp_path}/nets.py:make", {"hidden": 5}),
        "module": ("nets:make", {"hidden": 6}),
        "torchvision": ("torchvision:shufflenet_v2_x0_5", {}),
    }
    saved = {}
    for name, (arch, arch_args) in arches.items():
        spec = NetworkSpec(arch, 7, 3, (32, 32), arch_args, source_digest(arch))
        network = randomise(build(spec))
        save_network(network, spec, tmp_path / name)
        saved[name] = network
    folders = [str(tmp_path / name) for name in arches]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", _READ, *folders], cwd=tmp_path, env=environment, check=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, network in saved.items():
        read = load_file(tmp_path / name / "read.safetensors")
        with torch.no_grad():
            assert torch.equal(read.pop("logits"), network(torch.ones(2, 3, 32, 32))), name
        assert read.keys() == network.state_dict().keys()
        assert all(torch.equal(value, read[key]) for key, value in network.state_dict().items())
    torch.set_num_threads(threads)


def test_a_loaded_network_can_be_trained_on(tmp_path: Path) -> None:
    network, spec = make("small_cnn")
    sites = sites_of("small_cnn")
    save_network(prune(network, sites, {"features.3": np.array([0, 5])}), spec, tmp_path)
    loaded, _ = load_network(tmp_path)
    loaded.train()(images_for(spec, 4)).sum().backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())
    assert loaded.features[4].running_mean.shape == (30,)


def test_only_weights_and_json_are_written(tmp_path: Path) -> None:
    network, spec = make("small_cnn")
    save_network(network, spec, tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["network.json", "weights.safetensors"]
    assert load_file(tmp_path / "weights.safetensors").keys() == network.state_dict().keys()
    assert json.loads((tmp_path / "network.json").read_text())["spec"]["arch"] == "small_cnn"


def test_tensors_of_other_widths_are_refused() -> None:
    network, _ = make("small_cnn")
    wrong = {**widths(network), "features.0": (31, 1, 1)}
    with pytest.raises(RuntimeError, match=r"features\.0\.weight"):
        load_narrow(make("small_cnn")[0], wrong, dict(network.state_dict()))


def test_a_missing_tensor_is_refused() -> None:
    network, _ = make("small_cnn")
    tensors = dict(network.state_dict())
    del tensors["features.1.running_mean"]
    with pytest.raises(RuntimeError, match=r"features\.1\.running_mean"):
        load_narrow(make("small_cnn")[0], widths(network), tensors)


def test_widths_are_those_of_layers_only() -> None:
    network, _ = make("small_cnn")
    assert widths(network)["features.3"] == (32, 32, 1)
    assert widths(network)["features.4"] == (32,)
    assert widths(network)["classifier"] == (10, 64)
    assert "features.2" not in widths(network)
    with pytest.raises(TypeError, match="ReLU has no widths"):
        set_layer_widths(network.features[2], (3,))
