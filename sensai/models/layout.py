"""Memory layout of networks and images. N images, C channels, H x W pixels."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from sensai.models.architectures import ARCHITECTURES
from sensai.models.factory import NetworkSpec

# oneDNN computes at most so many channels at once: 16 floats with AVX-512, 8 with AVX2.
_BLOCK = 16
# Batch norm needs two images in training.
_IMAGES = 2
_TOLERANCE = 1e-5
# Gradients below this share of the largest one are rounding errors, like those of a bias before a batch norm.
_NEGLIGIBLE = 1e-3


def with_memory_format(network: nn.Module, spec: NetworkSpec) -> NetworkSpec:
    """Return the specification with the memory format that the network takes; all later stages use it.

    Architectures may declare that they take channels last, which tests hold; others are tried.

    Args:
        network: on the device where it is used; it is not changed.
        spec: of this network.
    """
    declared = spec.arch in ARCHITECTURES and bool(ARCHITECTURES[spec.arch].traits["channels_last"])
    return replace(spec, channels_last=declared or takes_channels_last(network, spec.input_shape))


def takes_channels_last(network: nn.Module, input_shape: tuple[int, int, int]) -> bool:
    """Return True if a network computes the same with channels last in memory: outputs, gradients and buffers.

    Both modes are tried, with the same random numbers. Convolutions are faster in this layout, but PyTorch allows a network
    to rely on contiguous images, for example by `x.view(len(x), -1)`.

    Args:
        network: it is not changed.
        input_shape: (C, H, W) of one image.
    """
    try:
        # The layouts add numbers in different orders. Deep networks show that in float32 but not in float64.
        return _agree(network, input_shape, torch.float32) or _agree(network, input_shape, torch.float64)
    # A user's network may raise any error for an unexpected layout.
    except Exception:
        return False


def laid_out(network: nn.Module, memory_format: torch.memory_format) -> nn.Module:
    """Bring a network into its training layout, in place (see `to_channels_last`)."""
    return to_channels_last(network) if memory_format is torch.channels_last else network


def to_channels_last(network: nn.Module) -> nn.Module:
    """Bring a network into channels-last layout, in which convolutions are faster.

    Strided 1x1 convolutions of few channels on a CPU are excepted: they and their inputs stay contiguous. oneDNN writes
    past its workspace when it computes the gradient of their weights in this layout, so that it is wrong or the process
    crashes (https://github.com/uxlfoundation/oneDNN/issues/6035).

    Args:
        network: changed in place; it must take this layout (see `takes_channels_last`).

    Returns:
        The network.
    """
    network.to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and _must_be_contiguous(module):
            # `contiguous` would change nothing where height and width are 1.
            module.weight.data = module.weight.detach().clone(memory_format=torch.contiguous_format)
            module.register_forward_pre_hook(_contiguous_inputs)
    return network


def _must_be_contiguous(convolution: nn.Conv2d) -> bool:
    strided_pointwise = convolution.kernel_size == (1, 1) and convolution.stride != (1, 1)
    few = convolution.in_channels // convolution.groups < _BLOCK
    trained = convolution.weight.requires_grad
    return convolution.weight.device.type == "cpu" and strided_pointwise and few and trained


def _contiguous_inputs(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(each.contiguous() for each in inputs)


def _agree(network: nn.Module, input_shape: tuple[int, int, int], dtype: torch.dtype) -> bool:
    """Return True if both layouts give the same; every pass is made, since float32 must work even if float64 decides."""
    same = []
    for training in (False, True):
        wanted, found = (
            _results(network, input_shape, dtype, memory_format, training)
            for memory_format in (torch.contiguous_format, torch.channels_last)
        )
        same += [_close(ours, theirs) for ours, theirs in zip(found, wanted, strict=True)]
    return all(same)


def _results(
    network: nn.Module,
    input_shape: tuple[int, int, int],
    dtype: torch.dtype,
    memory_format: torch.memory_format,
    training: bool,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return outputs, gradients and buffers of one forward and backward pass of a copy in one layout."""
    network = laid_out(deepcopy(network).to(dtype).train(training), memory_format)
    network.zero_grad(set_to_none=True)
    device = next(network.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(0)
        images = torch.randn(_IMAGES, *input_shape, dtype=dtype).to(device, memory_format=memory_format)
        output = network(images)
        output.square().sum().backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    return [output.detach()], gradients, list(network.buffers())


def _close(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> bool:
    pairs = [(ours.double(), theirs.double()) for ours, theirs in zip(found, wanted, strict=True) if theirs.numel()]
    largest = max((float(theirs.abs().max()) for _, theirs in pairs), default=0.0)
    return all(
        float((ours - theirs).abs().max()) <= _TOLERANCE * max(float(theirs.abs().max()), _NEGLIGIBLE * largest)
        for ours, theirs in pairs
    )
