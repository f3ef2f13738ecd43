"""A network as a graph of torch operators without batch norms, which at run time are nothing but scales and shifts."""

from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

_aten = torch.ops.aten
_CONVOLUTIONS = (_aten.conv2d.default, _aten.conv2d.padding)


@torch.no_grad()
def folded(network: nn.Module, example: Tensor) -> GraphModule:
    """What a network computes in eval mode, batch norms folded into the convolutions before them.

    A batch norm behind anything else becomes a multiplication and an addition; pooling to one pixel becomes a mean, for which
    exporters need no shape. Weights lie in channels-last order.

    Args:
        network: in eval mode; it stays as it is.
        example: any input of at least two images; the graph takes any number of them.
    """
    program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    module: Any = program.module(check_guards=False)
    for node in list(module.graph.nodes):
        if node.target is _aten.batch_norm.default:
            _fold(module, node)
        elif node.target is _aten.adaptive_avg_pool2d.default and list(node.args[1]) == [1, 1]:
            _replace(module, node, _aten.mean.dim, node.args[0], [-2, -1], True)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module.to(memory_format=torch.channels_last)


def _fold(module: GraphModule, norm: Node) -> None:
    before: Any = norm.args[0]
    gamma, beta, mean, variance = (_tensor(module, each) for each in norm.args[1:5])
    if norm.args[5] or mean is None or variance is None:
        return  # it goes by the statistics of the batch, also in eval mode
    factor = torch.rsqrt(variance + norm.args[7]) * (1 if gamma is None else gamma)
    addend = (0 if beta is None else beta) - mean * factor
    if before.target in _CONVOLUTIONS and len(before.users) == 1:
        _scale_convolution(module, before, norm, factor, addend)
        norm.replace_all_uses_with(before)
        module.graph.erase_node(norm)
    else:
        shape = [-1] + [1] * (norm.meta["val"].ndim - 2)
        scale = _constant(module, norm, f"{norm.name}_factor", factor.view(shape))
        shift = _constant(module, norm, f"{norm.name}_addend", addend.view(shape))
        with module.graph.inserting_before(norm):
            scaled = module.graph.call_function(_aten.mul.Tensor, (before, scale))
        _replace(module, norm, _aten.add.Tensor, scaled, shift)


def _scale_convolution(module: GraphModule, convolution: Any, norm: Node, factor: Tensor, addend: Tensor) -> None:
    images, weight, *rest = convolution.args
    bias = _tensor(module, rest[0]) if rest else None
    if bias is not None:
        addend = addend + bias * factor
    weight = _constant(module, convolution, f"{norm.name}_weight", _tensor(module, weight) * factor.view(-1, 1, 1, 1))
    convolution.args = (images, weight, _constant(module, convolution, f"{norm.name}_bias", addend), *rest[1:])


def _tensor(module: GraphModule, node: Any) -> Any:
    """The tensor that a node reads, None for none."""
    return None if node is None else attrgetter(node.target)(module).detach()


def _constant(module: GraphModule, reader: Node, name: str, value: Tensor) -> Node:
    """A new tensor of the module, for a node to read."""
    module.register_buffer(name, value)
    with module.graph.inserting_before(reader):
        return module.graph.get_attr(name)


def _replace(module: GraphModule, node: Node, operator: Any, *arguments: Any) -> None:
    with module.graph.inserting_before(node):
        node.replace_all_uses_with(module.graph.call_function(operator, arguments))
    module.graph.erase_node(node)
