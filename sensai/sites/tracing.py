"""Follow the channels of a network: labels flow through the exported graph beside the values.

Each position on a side of a layer has a number: an output row of a convolution, an input column of a linear layer, a
feature of a batch norm. The labels of a tensor give, for each element, the position that its channel comes from. Operations
that move data (reshape, permute, concatenate, slice) are simply executed on labels. An edge joins two positions that must
be kept or removed together. Positions are fixed, with the reason, where a narrower network would not repeat what an
operation does to its channels. An unknown operation fixes its inputs, so nothing is ever removed by guess.
"""

import operator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from sensai.models.widths import PerChannel, layer_widths
from sensai.sites.exporting import graph_of
from sensai.sites.labels import (
    NEUTRAL,
    along,
    distinct,
    is_spread_over,
    narrowed,
    repeats,
    spread,
    squash,
    varies,
    varies_only_along,
    vector,
)
from sensai.sites.operations import (
    ELEMENTWISE,
    LAYERS,
    MOVES,
    NORMS,
    REDUCTIONS,
    UNCHANGED,
    pooled_axes,
    why_unknown,
)

Side = Literal["out", "in"]

# These are precise enough to show a difference of 1e-5.
_EXACT = (torch.float32, torch.float64)


@dataclass
class ChannelTrace:
    """The result of a pass over the graph.

    Attributes:
        graph: the exported network.
        sides: (layer, side) -> its first position and its number of positions, in the order of the calls.
        edges: pairs of positions that go together, int64 (E, 2) each.
        fixed: position -> why it stays.
        added: positions whose channel is added to another one.
        head: module path of the layer that makes the logits.
        rows: the labels of the network's output (K,): the head's output positions where it gives one logit a row.
    """

    graph: fx.Graph
    sides: dict[tuple[str, Side], tuple[int, int]] = field(default_factory=dict)
    edges: list[np.ndarray] = field(default_factory=list)
    fixed: dict[int, str] = field(default_factory=dict)
    added: set[int] = field(default_factory=set)
    head: str = ""
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def count(self) -> int:
        """Return the highest position plus one."""
        return 1 + sum(size for _, size in self.sides.values())

    def positions(self, layer: str, side: Side, size: int) -> Tensor:
        """Return the positions on one side of a layer, int64 (size,)."""
        first, size = self.sides.setdefault((layer, side), (self.count, size))
        return torch.arange(first, first + size)

    def join(self, first: Tensor, second: Tensor) -> None:
        """Record that positions at the same place in both tensors are one channel."""
        pairs = torch.stack(torch.broadcast_tensors(first, second), -1).reshape(-1, 2)
        self.edges.append(torch.unique(pairs, dim=0).numpy())

    def fix(self, labels: Tensor, reason: str) -> None:
        """Record that the channels among these labels stay."""
        for position in torch.unique(labels[labels > 0]).tolist():
            self.fixed.setdefault(position, reason)


def trace_channels(model: nn.Module, example: Tensor) -> ChannelTrace:
    """Follow every channel of a network in eval mode through one forward pass.

    Args:
        model: a network that `torch.export` takes.
        example: float32 (1, C, H, W) on the model's device.
    """
    return _Tracer(graph_of(torch.export.export(model, (example,))), model).run()


class _Tracer:
    """Executes the graph on labels, int64 tensors of the values' shapes (N = 1).

    Labels are positions; 0 is no channel. -1 - k stands for a tensor outside the layers that is as wide as a channel
    dimension; its reason is `self._outside[k]`.
    """

    def __init__(self, exported: fx.GraphModule, model: nn.Module) -> None:
        self._graph = exported.graph
        self._modules = dict(model.named_modules())
        self._trace = ChannelTrace(exported.graph)
        self._outside: list[str] = []
        self._values: dict[fx.Node, Any] = {}

    def run(self) -> ChannelTrace:
        last_reader = {source: node for node in self._graph.nodes for source in node.all_input_nodes}
        for node in self._graph.nodes:
            self._values[node] = self._value(node)
            # Labels of large maps are dropped after their last reader, to save memory.
            for source in node.all_input_nodes:
                if last_reader[source] is node:
                    del self._values[source]
        return self._trace

    def _value(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return spread(torch.tensor(NEUTRAL), node.meta["val"].shape)
        if node.op == "output":
            return self._finish(node)
        if node.op == "get_attr":
            return self._constant(node, f"a tensor outside the layers ({node.target})")
        if node.op == "call_function":
            return self._called(node)
        return None

    def _finish(self, node: fx.Node) -> None:
        leaves = [leaf for leaf in node.all_input_nodes if isinstance(self._values.get(leaf), Tensor)]
        for leaf in leaves:
            self._trace.fix(distinct(self._values[leaf]), "an output of the network")
        if len(leaves) == 1:
            self._trace.rows = vector(self._values[leaves[0]]).numpy()

    def _called(self, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            return self._input(node)[node.args[1]]  # type: ignore[index]
        name = _name(node)
        if name in LAYERS:
            return self._layer(node, name)
        if name in UNCHANGED:
            return self._input(node)
        if name in MOVES:
            return self._moved(node)
        if pooled_axes(name):
            return self._pooled(node, pooled_axes(name))
        if name in REDUCTIONS:
            return self._reduced(node)
        if name == "cat":
            return self._concatenated(node)
        if name in ("pad", "constant_pad_nd"):
            return self._padded(node)
        if name in ELEMENTWISE or torch.Tag.pointwise in getattr(node.target, "tags", ()):
            return self._pointwise(node, name)
        return self._unknown(node, name)

    # ------------------------------------------------------------------------------------------------------- layers

    def _layer(self, node: fx.Node, name: str) -> Tensor:
        path = self._layer_path(node, name)
        if name == "prelu" and (path is None or layer_widths(self._modules[path]) == (1,)):
            return self._sloped(node)
        if path is None:
            return self._unknown(node, name)
        module = self._modules[path]
        labels = squash(self._input(node))
        axis = labels.ndim - 1 if name == "linear" else 1
        if not varies_only_along(labels, axis):
            self._trace.fix(distinct(labels), f"{path} does not read one channel everywhere")
            labels = spread(torch.tensor(NEUTRAL), labels.shape)
        channels = along(labels, axis)
        value = node.meta["val"]
        apart = isinstance(module, PerChannel)
        out = self._kept_apart(path, channels) if apart else self._weighted(path, module, channels)
        if value.dtype not in _EXACT:
            precision = str(value.dtype).removeprefix("torch.")
            reason = f"{path} computes in {precision} (autocast), too coarse to prove a cut"
            self._trace.fix(torch.cat([out, channels]), reason)
        shape = [1] * value.ndim
        shape[axis] = -1
        return out.view(shape).expand(value.shape)

    def _layer_path(self, node: fx.Node, name: str) -> str | None:
        """Return the layer that makes this call, if no other one uses its tensors; those of the others would be cut along."""
        path, tensors = caller(node), node.all_input_nodes[1:]
        # A normalisation may have no tensors.
        if not isinstance(self._modules.get(path), LAYERS[name]) or not (tensors or name in NORMS):
            return None
        own = all(tensor.op == "get_attr" and str(tensor.target).rpartition(".")[0] == path for tensor in tensors)
        return path if own and all(caller(user) == path for tensor in tensors for user in tensor.users) else None

    def _kept_apart(self, path: str, channels: Tensor) -> Tensor:
        own = self._trace.positions(path, "out", len(channels))
        self._tie(own, channels, path)
        return own

    def _weighted(self, path: str, module: nn.Module, channels: Tensor) -> Tensor:
        outputs, *_ = layer_widths(module) or ()
        own = self._trace.positions(path, "out", outputs)
        self._trace.head = path
        group_count = module.groups if isinstance(module, nn.Conv2d) else 1
        if group_count == 1:
            read = self._trace.positions(path, "in", len(channels))
            self._trace.join(read[channels > 0], channels[channels > 0])
            return own
        # A group goes or stays as a whole, with its inputs and its outputs.
        groups = own.view(group_count, -1)
        self._trace.join(groups, groups[:, :1])
        for read in channels.view(group_count, -1).T:
            self._tie(groups[:, 0], read, path)
        return own

    def _tie(self, own: Tensor, channels: Tensor, path: str) -> None:
        """Join a layer's positions with the channels that it reads; fix them where it reads something else."""
        known = channels > 0
        self._trace.join(own[known], channels[known])
        self._trace.fix(own[channels == NEUTRAL], f"{path} reads the image")
        self._keep_as_outside(own, channels)

    def _keep_as_outside(self, own: Tensor, labels: Tensor) -> None:
        """Fix channels that are combined with a tensor outside the layers, for its reason."""
        for label in torch.unique(labels[labels < 0]).tolist():
            self._trace.fix(own[labels == label], self._outside[-1 - label])

    # --------------------------------------------------------------------------------------------- moves and reductions

    def _moved(self, node: fx.Node) -> Any:
        labels = squash(self._input(node))
        # In-place operations and views need labels of their own.
        own = labels.clone(memory_format=torch.contiguous_format)
        result = node.target(own, *node.args[1:], **node.kwargs)  # type: ignore[operator]
        parts = [squash(part) for part in (result if isinstance(result, list | tuple) else [result])]
        if not all(repeats(labels, part) for part in parts):
            self._trace.fix(distinct(labels), f"its place among the channels matters to {_name(node)}")
        return parts if isinstance(result, list | tuple) else parts[0]

    def _pooled(self, node: fx.Node, axes: int) -> Any:
        # An unpooling reads the indices of the maxima as a second input.
        sources = [squash(self._values[source]) for source in node.all_input_nodes]
        if not all(varies_only_along(labels, labels.ndim - 1 - axes) for labels in sources):
            return self._unknown(node, _name(node))
        pixel: Any = (..., *[slice(1)] * axes)
        pooled, *others = (labels[pixel] for labels in sources)
        for other in others:
            pooled = self._combined(pooled, other, _name(node), pooled.shape)
        value = node.meta["val"]
        # A max pooling may also return the indices of the maxima.
        return [pooled.expand(each.shape) for each in value] if isinstance(value, tuple) else pooled.expand(value.shape)

    def _reduced(self, node: fx.Node) -> Tensor:
        labels = squash(self._input(node))
        axes = node.args[1] if len(node.args) > 1 else None
        if not isinstance(axes, list | tuple) or not axes or any(varies(labels, axis) for axis in axes):
            return self._unknown(node, _name(node))
        keep = bool(node.args[2]) if len(node.args) > 2 else bool(node.kwargs.get("keepdim", False))
        return torch.amax(labels, list(axes), keep)

    def _concatenated(self, node: fx.Node) -> Tensor:
        sources, *axis = node.args
        parts = [self._values[part] for part in sources]  # type: ignore[union-attr, index]
        return squash(torch.cat(parts, *axis))  # type: ignore[arg-type]

    def _padded(self, node: fx.Node) -> Tensor:
        labels = squash(self._input(node))
        amounts: list[int] = list(node.args[1])  # type: ignore[arg-type]
        padded = [labels.ndim - 1 - i // 2 for i, amount in enumerate(amounts) if amount]
        if not any(varies(labels, axis) for axis in padded):
            for axis in padded:
                labels = labels.narrow(axis, 0, 1)
            return labels.expand(node.meta["val"].shape)
        reason = "zeros are added beside its channels"
        self._trace.fix(distinct(labels), reason)
        return F.pad(labels, amounts, value=self._outside_label(reason))

    # ----------------------------------------------------------------------------------------------- elementwise and rest

    def _pointwise(self, node: fx.Node, name: str) -> Tensor:
        shape = node.meta["val"].shape
        operands = [self._values[source] for source in node.all_input_nodes]
        result = operands[0] if operands else torch.tensor(NEUTRAL)
        for operand in operands[1:]:
            result = self._combined(result, operand, name, shape)
        return squash(result.expand(shape))

    def _sloped(self, node: fx.Node) -> Tensor:
        """Return the labels after a PReLU that has one slope for all channels, or slopes that belong to no layer."""
        labels, slope = (self._values[source] for source in node.all_input_nodes)
        slope = slope.view(-1, *[1] * (labels.ndim - 2))
        return squash(self._combined(labels, slope, "prelu", labels.shape))

    def _combined(self, first: Tensor, second: Tensor, name: str, shape: torch.Size) -> Tensor:
        """Return the labels of two operands that are combined element by element."""
        if is_spread_over(second, first):
            second = torch.tensor(NEUTRAL)
        elif is_spread_over(first, second):
            first = torch.tensor(NEUTRAL)
        first, second = narrowed(first.expand(shape), second.expand(shape))
        both = (first > 0) & (second > 0) & (first != second)
        if both.any():
            self._trace.join(first[both], second[both])
            if name in ("add", "sub"):
                self._trace.added.update(torch.unique(first[both]).tolist())
        self._keep_as_outside(first, second)
        self._keep_as_outside(second, first)
        return torch.where(first == NEUTRAL, second, first).expand(shape)

    def _unknown(self, node: fx.Node, name: str) -> Any:
        reason = why_unknown(name)
        for source in node.all_input_nodes:
            for labels in _tensors(self._values.get(source)):
                self._trace.fix(distinct(labels), reason)
        return self._constant(node, reason)

    def _constant(self, node: fx.Node, reason: str) -> Any:
        value = node.meta.get("val")
        if value is None and node.op == "get_attr":
            value = operator.attrgetter(str(node.target))(self._graph.owning_module)
        if isinstance(value, list | tuple):
            return [self._wide(part, reason) for part in value]
        return self._wide(value, reason)

    def _wide(self, value: object, reason: str) -> Tensor | None:
        if not isinstance(value, Tensor):
            return None
        label = self._outside_label(reason) if value.numel() > 1 else NEUTRAL
        return spread(torch.tensor(label), value.shape)

    def _outside_label(self, reason: str) -> int:
        if reason not in self._outside:
            self._outside.append(reason)
        return -1 - self._outside.index(reason)

    def _input(self, node: fx.Node) -> Tensor:
        return self._values[node.all_input_nodes[0]]


def _name(node: fx.Node) -> str:
    """Return the name of an operation without its namespace, its overload and the mark of an in-place one."""
    packet = getattr(node.target, "_opname", getattr(node.target, "__name__", str(node.target)))
    return packet if packet.startswith("_") else packet.rstrip("_")


def caller(node: fx.Node) -> str:
    """Return the path of the module whose code makes a call."""
    stack = node.meta.get("nn_module_stack")
    return str(next(reversed(stack.values()))[0]) if stack else ""


def _tensors(value: object) -> list[Tensor]:
    parts = value if isinstance(value, list | tuple) else [value]
    return [part for part in parts if isinstance(part, Tensor)]
