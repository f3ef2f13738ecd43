"""Move constants that are added to all pixels of a channel into the biases of convolutions, where they cost nothing.

A branch without channels leaves such a shift behind.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule, Node

from sensai.runtimes.operators import CONVOLUTIONS, aten, before, constant, tensor

ADDITIONS = (aten.add.Tensor, aten.add_.Tensor)
_RELUS = (aten.relu.default, aten.relu_.default)


def absorb_shifts(module: GraphModule) -> None:
    """Defer every shift until a convolution takes it. Other readers get it added before."""
    shifts = _Shifts(module)
    for node in list(module.graph.nodes):
        shifts.visit(node)


class _Shifts:
    """The shifts that the readers of a node must still add, (1, C, 1, 1) each."""

    def __init__(self, module: GraphModule) -> None:
        self._module = module
        self._owed: dict[Node, Tensor] = {}
        self._paid: dict[Node, Node] = {}

    def visit(self, node: Node) -> None:
        """Defer the shift of one node; nodes are visited in order."""
        arguments: Any = node.args
        owing = [source for source in node.all_input_nodes if source in self._owed]
        if (shift := self._shift(node)) is not None and len(arguments[0].users) == 1:
            self._owe(arguments[0], self._owed.pop(arguments[0], torch.zeros(())) + shift)
            self._skip(node)
        elif not owing:
            pass
        elif node.target in _RELUS and self._is_bent(arguments[0]):
            # relu(relu(s) + c) = relu(s + min(c, 0)) + max(c, 0)
            owed = self._owed.pop(arguments[0])
            self._owe(arguments[0].args[0], owed.clamp(max=0))
            self._owe(arguments[0], owed.clamp(min=0))
            self._skip(node)
        elif node.target in ADDITIONS and _is_elementwise(node):
            self._owe(node, torch.stack([self._owed[each] for each in owing]).sum(0))
        elif node.target in CONVOLUTIONS and not _is_padded(node):
            weight, groups = tensor(self._module, arguments[1]), arguments[6] if len(arguments) > 6 else 1
            seen = self._owed[arguments[0]].expand(-1, -1, *weight.shape[2:])
            self._shift_bias(node, F.conv2d(seen, weight, groups=groups))
        else:
            for each in owing:
                node.replace_input_with(each, self._pay(each, node))

    def _shift(self, node: Node) -> Tensor | None:
        """Return the shift that a node adds to its first argument, None if there is none."""
        arguments: Any = node.args
        if node.target not in ADDITIONS or node.kwargs or getattr(arguments[1], "op", "") != "get_attr":
            return None
        value = tensor(self._module, arguments[1])
        return value if value.ndim == 4 and value.shape[0] == 1 == value[0, 0].numel() else None

    def _is_bent(self, source: Node) -> bool:
        """Return True if a node is a ReLU with one reader, and its input can take a shift."""
        below: Any = source.args[0] if source.args else None
        return source.target in _RELUS and len(source.users) == len(below.users) == 1 and bool(_takers(below))

    def _owe(self, node: Node, shift: Tensor) -> None:
        if not shift.any():
            return
        if takers := _takers(node):
            self._shift_bias(takers[0], shift)
        else:
            self._owed[node] = shift

    def _shift_bias(self, convolution: Node, shift: Tensor) -> None:
        images, weight, *rest = convolution.args
        bias = shift.flatten() + (tensor(self._module, rest[0]) if rest and rest[0] is not None else 0)
        name = f"{convolution.name}_shifted_{len(self._module._buffers)}"
        convolution.args = (images, weight, constant(self._module, convolution, name, bias), *rest[1:])

    def _skip(self, node: Node) -> None:
        node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
        self._module.graph.erase_node(node)

    def _pay(self, node: Node, reader: Node) -> Node:
        if node not in self._paid:
            shift = constant(self._module, reader, f"{node.name}_shift", self._owed[node])
            self._paid[node] = before(self._module, reader, aten.add.Tensor, node, shift)
            self._paid[node].meta = dict(node.meta)
        return self._paid[node]


def _takers(node: Node) -> list[Node]:
    """Return the convolutions that can take a shift of a node: their biases reach its channels and nothing else."""
    if node.target in ADDITIONS and _is_elementwise(node):
        return [each for each in node.all_input_nodes if each.target in CONVOLUTIONS and len(each.users) == 1]
    return [node] if node.target in CONVOLUTIONS else []


def _is_elementwise(addition: Node) -> bool:
    """Return True if a node adds two values of one shape, neither of them scaled."""
    shape, *others = (node.meta["val"].shape for node in (addition, *addition.all_input_nodes) if "val" in node.meta)
    return len(others) == 2 and others == [shape] * 2 and not addition.kwargs


def _is_padded(convolution: Node) -> bool:
    padding: Any = convolution.args[4] if len(convolution.args) > 4 else 0
    return padding != "valid" and (isinstance(padding, str) or any(padding if isinstance(padding, list) else [padding]))
