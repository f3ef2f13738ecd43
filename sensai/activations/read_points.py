"""The exported network and the nodes at which sites are read. N images, C channels of a site."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx, nn

from sensai.errors import InputError
from sensai.models.widths import channel_axis
from sensai.sites import Cut, Site, graph_of

_aten = torch.ops.aten
_ACTIVATIONS = {
    *(_aten.relu.default, _aten.relu_.default, _aten.hardtanh.default, _aten.hardtanh_.default),
    *(_aten.relu6.default, _aten.relu6_.default, _aten.leaky_relu.default, _aten.leaky_relu_.default),
    *(_aten.silu.default, _aten.silu_.default, _aten.hardswish.default, _aten.hardswish_.default),
    *(_aten.gelu.default, _aten.elu.default, _aten.elu_.default, _aten.mish.default, _aten.mish_.default),
    _aten.prelu.default,
}
# These operations between a site's layer and its activation keep each channel what it is.
_PASSED_THROUGH = {_aten.batch_norm.default, _aten.instance_norm.default, _aten.add.Tensor, _aten.add_.Tensor}

# Values of a map that each thread works on at once. One MiB stays in or near its cache and is not given back to the system
# between maps, so the sums are several times faster than sums of whole maps.
_VALUES_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class ReadPoint:
    """A node at which sites are read.

    Attributes:
        node: the activation in the exported graph, e.g. (N, C, H, W) or, of tokens, (N, T, C).
        axis: the axis of its channels.
        reads: site -> int64 (C, r), the positions of the site's channels among these.
    """

    node: fx.Node
    axis: int
    reads: dict[str, np.ndarray]

    @property
    def pixels(self) -> int:
        """Return the number of activations of one channel in one image."""
        shape = self.node.meta["val"].shape
        return math.prod(shape[1:]) // shape[self.axis]


def exported_graph(model: nn.Module, example: Tensor) -> fx.GraphModule:
    """Return the network in eval mode as a graph that takes any N and returns a tuple of only the logits.

    Args:
        model: a network that `torch.export` takes.
        example: float32 (N >= 2, C, H, W) on the model's device.
    """
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    try:
        exported = graph_of(torch.export.export(model.eval(), (example,), dynamic_shapes=dynamic))
    # As in `find_sites`, torch.export refuses with many types of error; here it refuses a fixed number of images.
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"arch: torch.export cannot follow the network with any number of images ({reason[:200]})"
        ) from error
    # The export's own code generation checks and packs only the outputs that it knew.
    exported.graph.set_codegen(fx.graph.CodeGen())
    return exported


def read_points(model: nn.Module, graph: fx.Graph, sites: Sequence[Site]) -> list[ReadPoint]:
    """Return the nodes at which sites are read, each once: the activations behind the layers that make their channels.

    A site without an activation is read at its batch norms, one without these at its layers.

    Raises:
        InputError: a site's layer makes more or fewer rows than there are images.
    """
    images = next(node for node in graph.nodes if node.op == "placeholder").meta["val"].shape[0]
    by_layer: dict[str, list[fx.Node]] = {}
    for node in graph.nodes:
        # Operations on a layer's input, such as padding by reflection, are not the layer's own.
        own = node.op == "call_function" and any(source.op == "get_attr" for source in node.all_input_nodes)
        if own and (stack := node.meta.get("nn_module_stack")):
            path = next(reversed(stack.values()))[0]
            by_layer.setdefault(path, []).append(node)
    points: dict[fx.Node, ReadPoint] = {}
    for site in sites:
        for node, cut in _site_nodes(site, by_layer).items():
            axis = channel_axis(model.get_submodule(cut.layer))
            if node.meta["val"].shape[0] != images:
                raise InputError(
                    f"arch: {cut.layer!r} mixes the images of a batch, its channels cannot be read by class"
                )
            points.setdefault(node, ReadPoint(node, axis, {})).reads[site.name] = cut.index
    return list(points.values())


def _site_nodes(site: Site, by_layer: dict[str, list[fx.Node]]) -> dict[fx.Node, Cut]:
    found = {_follow(node): cut for cut in site.cuts if cut.side == "out" for node in by_layer.get(cut.layer, [])}
    kinds = (_ACTIVATIONS, {_aten.batch_norm.default})
    preferred = ({node: cut for node, cut in found.items() if node.target in kind} for kind in kinds)
    return next((nodes for nodes in preferred if nodes), found)


def _follow(node: fx.Node) -> fx.Node:
    """Return the activation behind a layer's output; without one, its batch norm or the layer itself."""
    last = node
    # An activation with a slope for each channel is a layer of its own.
    while node.target not in _ACTIVATIONS:
        users = [user for user in node.users if user.op == "call_function"]
        activation = next((user for user in users if user.target in _ACTIVATIONS), None)
        if activation is not None:
            return activation
        step = next((user for user in users if user.target in _PASSED_THROUGH), None)
        if step is None:
            return last
        if step.target is _aten.batch_norm.default:
            last = step
        node = step
    return node


def add_sums(graph_module: fx.GraphModule, points: Sequence[ReadPoint], zero_threshold: float) -> None:
    """Make the network also return the `channel_sums` of every point."""
    sums = []
    for point in points:
        with graph_module.graph.inserting_after(point.node):
            sums.append(graph_module.graph.call_function(channel_sums, (point.node, zero_threshold, point.axis)))
    _add_output(graph_module, sums)


def add_gates(graph_module: fx.GraphModule, points: Sequence[ReadPoint]) -> None:
    """Multiply the activation of every point by a gate of ones, one for each image and channel; return the gates too.

    The derivative of a loss by a gate is the sum over pixels of activation x derivative by the activation.
    """
    graph, gates = graph_module.graph, []
    for point in points:
        with graph.inserting_after(point.node):
            gate = graph.call_function(_gate, (point.node, point.axis))
        with graph.inserting_after(gate):
            gated = graph.call_function(torch.mul, (point.node, gate))
        point.node.replace_all_uses_with(gated)
        gate.args, gated.args = (point.node, point.axis), (point.node, gate)
        gates.append(gate)
    _add_output(graph_module, gates)


def _add_output(graph_module: fx.GraphModule, nodes: list[fx.Node]) -> None:
    output = next(node for node in graph_module.graph.nodes if node.op == "output")
    output.args = ((*output.args[0], nodes),)
    graph_module.recompile()


def _gate(activation: Tensor, axis: int) -> Tensor:
    shape = [len(activation), *[1] * (activation.ndim - 1)]
    shape[axis] = activation.shape[axis]
    return activation.new_ones(shape).requires_grad_()


def channel_sums(activation: Tensor, zero_threshold: float, axis: int = 1) -> Tensor:
    """Return the number of zeros and the sum of |a| over the pixels of each image and channel.

    Args:
        activation: float32 of shape (N, ...) with C channels along `axis`; the zeros are exact for up to 2^24 pixels.
        zero_threshold: |a| up to this is a zero.
        axis: the axis of the channels.

    Returns:
        float64 (2, N, C).
    """
    maps = activation.detach().movedim(axis, 1)
    maps = maps if maps.ndim > 2 else maps.unsqueeze(2)
    pixels = tuple(range(2, maps.ndim))
    parts = []
    for part in maps.split(_images_at_once(maps)):
        magnitude = part.abs()
        total = magnitude.sum(pixels)
        parts.append(torch.stack((magnitude.le_(zero_threshold).sum(pixels), total)))
    return torch.cat(parts, 1).double()


def _images_at_once(maps: Tensor) -> int:
    if maps.is_cuda:
        return len(maps)
    return max(torch.get_num_threads() * _VALUES_AT_ONCE // maps[0].numel(), 1)
