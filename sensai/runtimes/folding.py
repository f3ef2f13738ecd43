"""A network as a graph of torch operators without batch norms, which at run time are nothing but scales and shifts."""

import math
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_weights

_aten = torch.ops.aten
_CONVOLUTIONS = (_aten.conv2d.default, _aten.conv2d.padding)


@torch.no_grad()
def folded(network: nn.Module, example: Tensor) -> GraphModule:
    """What a network computes in eval mode, batch norms folded into the convolutions before them.

    A batch norm behind anything else becomes a multiplication and an addition; pooling to one pixel becomes a mean, and
    flattening a reshaping, for which exporters need no shape at run time. Weights lie in channels-last order.

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
        elif node.target is _aten.flatten.using_ints and node.args[1:] == (1,):
            _replace(
                module, node, _aten.reshape.default, node.args[0], [-1, math.prod(node.args[0].meta["val"].shape[1:])]
            )
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module.to(memory_format=torch.channels_last)


def _fold(module: GraphModule, norm: Node) -> None:
    arguments: Any = norm.args
    before = arguments[0]
    gamma, beta, mean, variance = (_tensor(module, each) for each in arguments[1:5])
    if arguments[5] or mean is None or variance is None:
        return  # it goes by the statistics of the batch, also in eval mode
    fuse = partial(fuse_conv_bn_weights, bn_rm=mean, bn_rv=variance, bn_eps=arguments[7], bn_w=gamma, bn_b=beta)
    if before.target in _CONVOLUTIONS and len(before.users) == 1:
        images, weight, *rest = before.args
        fused = fuse(_tensor(module, weight), _tensor(module, rest[0]) if rest else None)
        constants = [_constant(module, before, f"{norm.name}_{number}", value) for number, value in enumerate(fused)]
        before.args = (images, *constants, *rest[1:])
        norm.replace_all_uses_with(before)
        module.graph.erase_node(norm)
    else:
        # By itself it is a convolution whose weights were 1.
        fused = fuse(torch.ones(len(mean), 1), None)
        shape = [-1] + [1] * (norm.meta["val"].ndim - 2)
        scale, shift = (
            _constant(module, norm, f"{norm.name}_{number}", value.view(shape)) for number, value in enumerate(fused)
        )
        with module.graph.inserting_before(norm):
            scaled = module.graph.call_function(_aten.mul.Tensor, (before, scale))
        _replace(module, norm, _aten.add.Tensor, scaled, shift)


def _tensor(module: GraphModule, node: Any) -> Any:
    """The tensor that a node reads, None for none."""
    return None if node is None else attrgetter(node.target)(module).detach()


def _constant(module: GraphModule, reader: Node, name: str, value: Tensor) -> Node:
    """A new tensor of the module, for a node to read."""
    module.register_buffer(name, value.detach())
    with module.graph.inserting_before(reader):
        return module.graph.get_attr(name)


def _replace(module: GraphModule, node: Node, operator: Any, *arguments: Any) -> None:
    with module.graph.inserting_before(node):
        replacement = module.graph.call_function(operator, arguments)
    replacement.meta = dict(node.meta)
    node.replace_all_uses_with(replacement)
    module.graph.erase_node(node)
