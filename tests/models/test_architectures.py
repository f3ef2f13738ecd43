"""Every architecture that has a name against what all promise."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from sensai.models.architecture_names import input_rule
from sensai.models.architectures import ARCHITECTURES
from sensai.models.factory import NetworkSpec, build
from sensai.models.layout import with_memory_format


def cases() -> list[tuple[str, dict[str, Any]]]:
    """Every architecture as it is, and with each value of each argument that differs from the first."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name in ARCHITECTURES:
        declared = cast("Mapping[str, Sequence[object]]", ARCHITECTURES[name].traits["arguments"])
        found.append((name, {}))
        found += [(name, {key: value}) for key, values in declared.items() for value in values[1:]]
    # Only some depths are those of bottleneck networks.
    return [case for case in found if case not in [(f"resnet{depth}", {"block": "bottleneck"}) for depth in (32, 44)]]


@pytest.mark.parametrize(("name", "arch_args"), cases(), ids=str)
def test_every_architecture_keeps_the_protocol(name: str, arch_args: dict[str, Any]) -> None:
    rule = input_rule(name)
    side = rule.image_size or rule.smallest or 8
    assert (rule.smallest or 1) <= side
    spec = NetworkSpec(name, 7, rule.channels or 2, (side, side), arch_args)
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        network = build(spec)
        weights.append(torch.cat([each.detach().flatten() for each in network.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    with torch.no_grad():
        logits = network.eval()(torch.randn(2, *spec.input_shape))
    assert (logits.shape, logits.dtype) == ((2, 7), torch.float32)
    assert torch.isfinite(logits).all()


class Flat(nn.Module):
    """A network that reads its images as they lie in memory."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 3)
        self.linear = nn.Linear(4 * 36, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.conv(x).view(len(x), -1))


@pytest.mark.parametrize("declared", [True, False])
def test_the_memory_format_is_tried_unless_it_is_declared(declared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ARCHITECTURES, "_parts", {name: ARCHITECTURES[name] for name in ARCHITECTURES})
    ARCHITECTURES.register("flat", "of this test", channels_last=declared)(Flat)
    spec = NetworkSpec("flat", 3, 2, (8, 8))
    assert with_memory_format(build(spec), spec).channels_last == declared
