"""Networks for tests: a three-layer one that can be counted by hand, and every architecture with active batch norms."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensai.models.architectures import ARCHITECTURES
from sensai.models.factory import NetworkSpec, build
from sensai.sites import Plan, SiteMap, find_sites

# Every architecture, the variants of its shortcuts, and a bottleneck network of few layers.
EVERY: list[tuple[str, dict[str, Any]]] = [
    *((arch, {}) for arch in ARCHITECTURES),
    *((arch, {"shortcut": "parameter_free"}) for arch in ARCHITECTURES if arch.startswith("resnet")),
    ("resnet20", {"block": "bottleneck"}),
    ("resnet20", {"block": "bottleneck", "shortcut": "parameter_free"}),
]
# These lie between a shallower and a deeper network with the same blocks, and would show nothing that those two do not.
_BETWEEN = ("vgg13_bn", "vgg16_bn", "resnet32", "resnet44", "resnet56")
CONTRACT = [(arch, arch_args) for arch, arch_args in EVERY if arch not in _BETWEEN]


def contract_id(value: object) -> str:
    """Return the name of a case of `EVERY` in pytest's output."""
    return "-".join(str(each) for each in value.values()) or "default" if isinstance(value, dict) else str(value)


class ThreeLayers(nn.Module):
    """Two convolutions and a linear layer on (N, 1, 6, 6), four classes; the linear layer reads 3 channels of 9 pixels.

    By hand: 18 + 4 + 57 + 112 = 191 parameters and 648 + 486 + 108 = 1242 multiply-accumulates.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(2)
        self.conv2 = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.linear = nn.Linear(27, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.linear(F.relu(self.conv2(x)).flatten(1))


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norms and biases effective values, so that a channel that was not removed shows; set eval mode."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(uniform(module.weight, 0.5, 1.5))
                module.bias.copy_(uniform(module.bias, -0.4, 0.4))
                module.running_mean.copy_(uniform(module.running_mean, -0.3, 0.3))
                module.running_var.copy_(uniform(module.running_var, 0.5, 2.0))
            elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                module.bias.copy_(uniform(module.bias, -0.2, 0.2))
    return network.eval()


def make(
    arch: str, arch_args: dict[str, Any] | None = None, *, num_classes: int = 10, seed: int = 0, grey: bool = False
) -> tuple[nn.Module, NetworkSpec]:
    """Return a network with active batch norms and its specification; input 8x8 grey (small_cnn, or `grey`) or 32x32
    colour.
    """
    shape = (1, (8, 8)) if grey or arch == "small_cnn" else (3, (32, 32))
    spec = NetworkSpec(arch, num_classes, *shape, arch_args or {})
    torch.manual_seed(seed)
    return randomise(build(spec), seed), spec


@lru_cache(maxsize=1)
def _shared(arch: str, arch_args: tuple[tuple[str, Any], ...]) -> tuple[nn.Module, NetworkSpec]:
    return make(arch, dict(arch_args))


def shared(arch: str, arch_args: dict[str, Any] | None = None) -> tuple[nn.Module, NetworkSpec]:
    """Return `make`, built once for consecutive tests, which must not change it."""
    return _shared(arch, tuple((arch_args or {}).items()))


@lru_cache
def _sites(arch: str, arch_args: tuple[tuple[str, Any], ...]) -> SiteMap:
    network, spec = shared(arch, dict(arch_args))
    return find_sites(network, images_for(spec, 2))


def sites_of(arch: str, arch_args: dict[str, Any] | None = None) -> SiteMap:
    """Return the sites of the network of `make` or `shared`, found once: tracing a deep one takes seconds."""
    return _sites(arch, tuple((arch_args or {}).items()))


def images_for(spec: NetworkSpec, count: int, seed: int = 0) -> Tensor:
    """Return normally distributed images (count, C, H, W)."""
    return torch.randn(count, *spec.input_shape, generator=torch.Generator().manual_seed(seed))


def three_layers(seed: int = 0) -> ThreeLayers:
    """Return the hand-counted network, with active batch norms."""
    torch.manual_seed(seed)
    network = ThreeLayers()
    randomise(network, seed)
    return network


def snapshot(network: nn.Module) -> dict[str, Any]:
    """Return everything of a network that a reading function must not change; compare with `assert_same`."""
    return {
        "tensors": {name: value.clone() for name, value in network.state_dict().items()},
        "identities": {name: id(value) for name, value in network.named_parameters()},
        "requires_grad": {name: value.requires_grad for name, value in network.named_parameters()},
        "gradients": {name for name, value in network.named_parameters() if value.grad is not None},
        "hooks": {
            name: (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for name, module in network.named_modules()
        },
        "training": {name: module.training for name, module in network.named_modules()},
    }


def assert_same(network: nn.Module, before: dict[str, Any]) -> None:
    """Assert that the network is as in the snapshot `before`."""
    after = snapshot(network)
    assert after["tensors"].keys() == before["tensors"].keys()
    for name, value in before["tensors"].items():
        assert torch.equal(after["tensors"][name], value), name
    for part in before.keys() - {"tensors"}:
        assert after[part] == before[part], part


def norm_behind(convolution: str) -> str:
    """Return the module path of the batch norm behind a convolution, by the names of the architectures in `sensai.models`.

    For a parameter-free shortcut, which has none, return its own path.
    """
    parent, _, last = convolution.rpartition(".")
    if last == "shortcut":
        return convolution
    norm = last.replace("conv", "bn") if last.startswith("conv") else str(int(last) + 1)
    return f"{parent}.{norm}" if parent else norm


def blocks_per_stage(network: nn.Module) -> int:
    """Return the number of blocks in each of a residual network's three stages."""
    return len(network.get_submodule("layer1"))


def random_plan(sites: SiteMap, share: float, seed: int, emptied: float = 0) -> Plan:
    """Return a plan with about so many random channels in every site: at most all but one, or all in some that may be
    emptied.
    """
    generator = np.random.default_rng(seed)
    plan = {}
    for site in sites.sites:
        count = min(int(generator.binomial(site.channels, share)), site.channels - 1)
        if emptied and site.name in sites.branches and generator.random() < emptied:
            count = site.channels
        plan[site.name] = np.sort(generator.permutation(site.channels)[:count])
    return plan
