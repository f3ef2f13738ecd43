"""How a network lies in memory while it is trained."""

import torch
from torch import Tensor, nn

# Channels that oneDNN takes at once, at most: 16 floats with AVX-512, 8 with AVX2.
_BLOCK = 16


def lay_out(network: nn.Module) -> nn.Module:
    """Bring a network into the layout that it is trained in: channels last, in which convolutions are faster.

    But for strided 1x1 convolutions of few channels on a CPU: oneDNN writes past its workspace when it takes the gradient of
    their weights in this layout, so that it is wrong or the process dies
    (https://github.com/uxlfoundation/oneDNN/issues/6035). They stay contiguous, and so become their inputs.

    Args:
        network: changed in place; its results stay the same.

    Returns:
        the network.
    """
    network.to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and _must_be_contiguous(module):
            # `contiguous` would see nothing to do where height and width are 1.
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
