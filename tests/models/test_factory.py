"""Every architecture by its name."""

import json
from typing import Any

import pytest
import torch
from torch import nn

from sensai.errors import InputError
from sensai.models.architecture_names import input_rule
from sensai.models.architectures import ARCHITECTURES
from sensai.models.factory import NetworkSpec, build
from sensai.models.libraries import library_names, torchvision_networks
from sensai.models.resnet import ParameterFreeShortcut
from tests.helpers.networks import EVERY, contract_id, images_for, make, shared


@pytest.mark.parametrize(("arch", "arch_args"), EVERY, ids=contract_id)
def test_every_architecture_gives_one_finite_logit_a_class(arch: str, arch_args: dict[str, Any]) -> None:
    network, spec = shared(arch, arch_args)
    with torch.no_grad():
        logits = network(images_for(spec, 2))
    assert logits.shape == (2, 10)
    assert torch.isfinite(logits).all()
    assert (logits[0] != logits[1]).any()


@pytest.mark.parametrize(("arch", "arch_args"), EVERY, ids=contract_id)
def test_the_depth_in_the_name_counts_the_layers(arch: str, arch_args: dict[str, Any]) -> None:
    network, _ = shared(arch, arch_args)
    digits = "".join(character for character in arch.removesuffix("_bn") if character.isdigit())
    layers = [name for name, each in network.named_modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    on_the_main_path = [name for name in layers if "shortcut" not in name]
    if arch.startswith("vgg"):  # The name counts three linear layers; the form for 32x32 input has one.
        assert len(on_the_main_path) == int(digits) - 2
    elif arch.startswith("resnet"):
        assert len(on_the_main_path) == int(digits)
    elif arch == "small_cnn":
        assert len(layers) == 5


@pytest.mark.parametrize(
    ("arch", "arch_args", "params"),
    [
        ("resnet20", {"shortcut": "parameter_free"}, 269_722),  # 0.27 M in the paper
        ("resnet56", {"shortcut": "parameter_free"}, 853_018),  # 0.85 M
        ("resnet110", {"block": "basic", "shortcut": "parameter_free"}, 1_727_962),  # 1.7 M
        ("vgg11_bn", {}, 9_231_114),
        ("vgg16_bn", {}, 14_728_266),
        ("mobilenetv2", {}, 2_296_922),  # As counted in many repositories that train the same form.
        ("shufflenetv2", {}, 1_263_854),
        ("shufflenetv2", {"width": 0.5}, 352_042),
    ],
)
def test_parameter_counts_are_those_of_the_literature(arch: str, arch_args: dict[str, Any], params: int) -> None:
    network = build(NetworkSpec(arch, 10, 3, (32, 32), arch_args))
    assert sum(parameter.numel() for parameter in network.parameters()) == params


def test_the_parameter_free_shortcut_subsamples_and_pads_both_sides() -> None:
    x = torch.randn(2, 3, 5, 5)
    out = ParameterFreeShortcut(3, 8, stride=2)(x)
    assert out.shape == (2, 8, 3, 3)
    assert torch.equal(out[:, 2:5], x[:, :, ::2, ::2])
    assert not out[:, :2].any()
    assert not out[:, 5:].any()


def test_a_new_network_has_its_parameter_free_shortcuts_as_they_are() -> None:
    network, x = (
        build(NetworkSpec("resnet20", 10, 3, (32, 32), {"shortcut": "parameter_free"})),
        torch.randn(2, 16, 4, 4),
    )
    assert torch.equal(network.get_submodule("layer2.0.shortcut")(x)[:, 8:24], x[:, :, ::2, ::2])


def test_a_specification_survives_json() -> None:
    spec = NetworkSpec("resnet20", 7, 3, (32, 24), {"block": "bottleneck"})
    assert NetworkSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.input_shape == (3, 32, 24)


@pytest.mark.parametrize(
    ("arch", "arch_args", "message"),
    [
        ("resnet18", {}, "arch='resnet18': is no architecture; did you mean torchvision:resnet18 or "),
        ("convnext", {}, "did you mean torchvision:convnext_tiny or torchvision:convnext_"),
        ("vgg11_bm", {}, "did you mean vgg11_bn or torchvision:vgg11 or "),
        (
            "something",
            {},
            "arch='something': is no architecture; allowed are mobilenetv2, resnet20, resnet32, .*, vgg19_bn",
        ),
        ("shufflenetv2", {"width": 3}, "width=3 is none of 0.5, 1, 1.5, 2"),
        ("mobilenetv2", {"width": 1}, "mobilenetv2 takes no arguments, not 'width'"),
        ("small_cnn", {"width": 3}, "small_cnn takes no arguments, not 'width'"),
        ("vgg11_bn", {"block": "basic"}, "vgg11_bn takes no arguments, not 'block'"),
        ("resnet20", {"blocks": "basic"}, "resnet20 takes block, shortcut, not 'blocks'"),
        ("resnet20", {"block": "wide"}, "block='wide' is none of basic, bottleneck"),
        ("resnet20", {"shortcut": 1}, "shortcut=1 is none of projection, parameter_free"),
        ("resnet32", {"block": "bottleneck"}, r"makes depths 9n \+ 2, but the depth is 32"),
    ],
)
def test_unknown_networks_are_refused(arch: str, arch_args: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(NetworkSpec(arch, 10, 3, (32, 32), arch_args))


def test_the_names_of_torchvision_that_are_suggested_are_all_of_them() -> None:
    assert torchvision_networks.names() == library_names.TORCHVISION_NETWORKS


def test_the_block_can_be_chosen() -> None:
    deep, _ = make("resnet110", {"block": "basic"})
    assert not any("conv3" in name for name, _ in deep.named_modules())
    assert sum(isinstance(each, nn.Conv2d) for each in make("resnet110")[0].layer1[0].modules()) == 4


def test_initial_weights_follow_the_seed() -> None:
    spec = NetworkSpec("small_cnn", 3, 1, (8, 8))
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(build(spec).features[0].weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_networks_of_fixed_input_say_so() -> None:
    assert input_rule("small_cnn") == (None, None, None)
    assert all(input_rule(arch) == (32, 3, 32) for arch in ARCHITECTURES if arch != "small_cnn")
    assert input_rule("nets.py:make") == input_rule("package.nets:make") == (None, None, None)
    with pytest.raises(InputError, match=r"did you mean .*resnet20"):
        input_rule("resnet21")
