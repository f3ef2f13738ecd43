"""Turn a network into a graph of torch operators without batch norms: at run time these only scale and shift."""

import math
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg
from torch.nn.utils.fusion import fuse_conv_bn_weights

from sensai.models.widths import ZeroWidthConv2d
from sensai.runtimes.operators import CONVOLUTIONS, aten, before, constant, replace, tensor
from sensai.runtimes.shifts import ADDITIONS, absorb_shifts
from sensai.sites import graph_of

# The export names the class of a layer like this.
_ZERO_WIDTH = f"{ZeroWidthConv2d.__module__}.{ZeroWidthConv2d.__qualname__}"


@torch.no_grad()
def folded(
    network: nn.Module, example: Tensor, memory_format: torch.memory_format = torch.contiguous_format
) -> GraphModule:
    """Return the graph of a network in eval mode, with batch norms folded into the convolutions before them.

    A batch norm behind anything else becomes a multiplication and an addition. Pooling to one pixel becomes a mean, and
    flattening a reshaping: exporters then need no shape at run time.

    Args:
        network: in eval mode; it is not changed.
        example: any input of at least two images; the graph takes any number of them.
        memory_format: of the images that the graph takes, and of its weights.
    """
    example = example.contiguous(memory_format=memory_format)
    program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    module = graph_of(program)
    _settle(module)
    for node in list(module.graph.nodes):
        if node.target is aten.batch_norm.default:
            _fold(module, node)
        elif node.target is aten.adaptive_avg_pool2d.default and list(node.args[1]) == [1, 1]:
            replace(module, node, aten.mean.dim, node.args[0], [-2, -1], True)
        elif node.target is aten.flatten.using_ints and node.args[1:] == (1,):
            replace(
                module, node, aten.reshape.default, node.args[0], [-1, math.prod(node.args[0].meta["val"].shape[1:])]
            )
    absorb_shifts(module)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module.to(memory_format=memory_format)


def _settle(module: GraphModule) -> None:
    """Compute here and now what follows from no channels at all: what a branch without any adds to a residual connection."""
    images = next(node for node in module.graph.nodes if node.op == "placeholder")
    # The shape for one image: (1, ...).
    values: dict[Node, Tensor] = {}
    for node in list(module.graph.nodes):
        value = _value(module, node, values)
        if isinstance(value, Tensor) and value.shape[:1] == (1,) and _shape(node)[:1] == _shape(images)[:1]:
            values[node] = value
            continue
        if node.target is aten.cat.default:
            node.args = ([part for part in node.args[0] if 0 not in _shape(part)], *node.args[1:])
        for settled in [source for source in node.all_input_nodes if source in values]:
            held = constant(module, node, f"{node.name}_{settled.name}", _narrowest(values[settled]))
            other = next((source for source in node.all_input_nodes if source is not settled), settled)
            if node.target in ADDITIONS and not node.kwargs and _shape(other) == _shape(settled):
                replace(module, node, aten.add.Tensor, other, held)
            else:
                sizes = before(module, node, aten.sym_size.int, images, 0), *_shape(settled)[1:]
                node.replace_input_with(settled, before(module, node, aten.expand.default, held, sizes))
    for node in reversed(values):
        if not node.users:
            module.graph.erase_node(node)


def _value(module: GraphModule, node: Node, values: dict[Node, Tensor]) -> Any:
    """Return the value of a node if it is the same for all images, else None."""
    _, layer = next(reversed(node.meta.get("nn_module_stack", {"": ("", "")}).values()))
    # It is empty, or the input of a convolution without channels.
    if 0 in _shape(node)[1:] or (node.target is aten.new_zeros.default and layer == _ZERO_WIDTH):
        return torch.zeros(1, *_shape(node)[1:])
    weights = {source: tensor(module, source) for source in node.all_input_nodes if source.op == "get_attr"}
    if values.keys().isdisjoint(node.all_input_nodes) or not {*node.all_input_nodes} <= values.keys() | weights.keys():
        return None
    arguments, named = map_arg((node.args, node.kwargs), (values | weights).get)
    return cast(Any, node.target)(*arguments, **named)


def _shape(node: Node) -> tuple[int, ...]:
    value = None if node.op == "get_attr" else node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _narrowest(value: Tensor) -> Tensor:
    """Return a map (1, C, H, W) as (1, C, 1, 1) if all its pixels are equal."""
    pixel = value[..., :1, :1]
    return pixel if torch.equal(pixel.expand_as(value), value) else value


def _fold(module: GraphModule, norm: Node) -> None:
    arguments: Any = norm.args
    source = arguments[0]
    gamma, beta, mean, variance = (tensor(module, each) for each in arguments[1:5])
    if arguments[5] or mean is None or variance is None:
        return  # it goes by the statistics of the batch, also in eval mode
    fuse = partial(fuse_conv_bn_weights, bn_rm=mean, bn_rv=variance, bn_eps=arguments[7], bn_w=gamma, bn_b=beta)
    if source.target in CONVOLUTIONS and len(source.users) == 1:
        images, weight, *rest = source.args
        fused = fuse(tensor(module, weight), tensor(module, rest[0]) if rest else None)
        constants = [constant(module, source, f"{norm.name}_{number}", value) for number, value in enumerate(fused)]
        source.args = (images, *constants, *rest[1:])
        norm.replace_all_uses_with(source)
        module.graph.erase_node(norm)
    else:
        # Alone, a batch norm equals a convolution with weights of 1.
        fused = fuse(torch.ones(len(mean), 1), None)
        shape = [-1] + [1] * (norm.meta["val"].ndim - 2)
        scale, shift = (
            constant(module, norm, f"{norm.name}_{number}", value.view(shape)) for number, value in enumerate(fused)
        )
        replace(module, norm, aten.add.Tensor, before(module, norm, aten.mul.Tensor, source, scale), shift)
