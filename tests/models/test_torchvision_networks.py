"""Every classification network of torchvision by its name, without a download."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torchvision import models

from sensai.errors import InputError
from sensai.models.architecture_names import input_rule
from sensai.models.factory import NetworkSpec, auxiliary_heads, build
from sensai.models.foreign_checkpoints import adopt, read_checkpoint
from sensai.models.libraries import torchvision_networks


def spec(name: str, side: int | None = None, **arguments: Any) -> NetworkSpec:
    arch = f"torchvision:{name}"
    side = side or input_rule(arch).image_size
    assert side
    return NetworkSpec(arch, 7, 3, (side, side), arguments)


class _ShapesAlone(TorchFunctionMode):
    """Gives tensors of layers a shape without memory; arithmetic for widths stays real.

    Batch norms keep the shape; computing them would take half of the time.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.batch_norm:
            return args[0]
        return func(*args, **((kwargs or {}) | ({"device": "meta"} if func is torch.empty else {})))


def shape_of_output(which: NetworkSpec) -> tuple[int, ...]:
    with _ShapesAlone(), torch.no_grad():
        output = build(which).to("meta")(torch.empty(2, *which.input_shape))
    assert isinstance(output, torch.Tensor), which.arch
    return tuple(output.shape)


@pytest.mark.long
def test_every_name_builds_and_gives_one_logit_a_class_at_its_own_size() -> None:
    names = torchvision_networks.names()
    assert len(names) >= 80
    assert {"resnet50", "vgg19_bn", "googlenet", "inception_v3", "vit_h_14"} <= set(names)
    # In training mode, auxiliary heads would return outputs too.
    assert {name: shape_of_output(spec(name)) for name in names} == dict.fromkeys(names, (2, 7))


@pytest.mark.parametrize(
    ("name", "size", "smallest"),
    [("resnet50", 224, 1), ("inception_v3", 299, 75), ("vgg19_bn", 224, 32), ("vit_b_16", 224, 224)],
)
def test_the_input_is_that_of_the_default_weights(name: str, size: int, smallest: int) -> None:
    assert input_rule(f"torchvision:{name}") == (size, 3, smallest)
    assert shape_of_output(spec(name, smallest)) == (2, 7)


@pytest.mark.parametrize(("name", "hint"), [("resnet51", "did you mean .*resnet50"), ("zzzz", "allowed are alexnet, ")])
def test_unknown_names_list_the_near_ones(name: str, hint: str) -> None:
    for function in (
        lambda: input_rule(f"torchvision:{name}"),
        lambda: build(NetworkSpec("torchvision:" + name, 7, 3, (9, 9))),
    ):
        with pytest.raises(InputError, match=f"arch='torchvision:{name}': torchvision has no .*{hint}"):
            function()


def test_networks_of_other_tasks_are_not_among_them() -> None:
    for name in ("fcn_resnet50", "r3d_18", "ssd300_vgg16", "raft_large", "quantized_resnet50"):
        with pytest.raises(InputError, match="no such classification network"):
            input_rule(f"torchvision:{name}")


def test_arguments_reach_the_network() -> None:
    assert build(spec("vgg11", dropout=0.1)).classifier[2].p == 0.1
    assert build(spec("mobilenet_v2", width_mult=0.5)).features[0][0].out_channels == 16
    assert build(spec("inception_v3", transform_input=True)).transform_input


@pytest.mark.parametrize(
    ("name", "side", "arguments", "message"),
    [
        ("resnet18", 224, {"drop": 1}, "arch_args: torchvision:resnet18 takes zero_init_residual, .*, not 'drop'"),
        ("resnet18", 224, {"num_classes": 5}, "not 'num_classes'"),
        ("resnet18", 224, {"layers": [1, 1, 1, 1]}, "not 'layers'"),
        ("resnet18", 224, {"weights": "DEFAULT"}, "not 'weights'"),
        ("googlenet", 224, {"aux_logits": True}, "not 'aux_logits'"),
        ("resnet18", 224, {"groups": 3}, "cannot build resnet18 of these"),
        ("vit_b_16", 230, {}, "cannot build vit_b_16 of these"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(name: str, side: int, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build(spec(name, side, **arguments))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_a_checkpoint_of_torchvision_loads_as_it_is(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    # The published weights include auxiliary heads.
    heads = {"init_weights": False} if name == "googlenet" else {}
    trained = models.get_model_builder(name)(weights=None, num_classes=7, **heads)
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    which = spec(name, 64)
    network = build(which)
    adopt(network, read_checkpoint(tmp_path / "weights.pth"), tmp_path / "weights.pth", auxiliary_heads(which.arch))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network.eval()(images), trained.eval()(images))


def test_only_heads_that_training_alone_uses_are_left_out_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert auxiliary_heads("torchvision:resnet18") == auxiliary_heads("resnet20") == ()
    network = build(spec("resnet18"))
    tensors = network.state_dict() | {"aux1.conv.weight": torch.zeros(1)}
    adopt(network, tensors, Path("x"), ("aux1",))
    assert not caplog.messages
    adopt(network, tensors, Path("x"), auxiliary_heads("torchvision:resnet18"))
    assert caplog.messages == ["checkpoint='x': left out what fits no module (1): aux1.conv.weight"]
