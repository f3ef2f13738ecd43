"""Read and edit the graph of a network's operators."""

from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

aten = torch.ops.aten
CONVOLUTIONS = (aten.conv2d.default, aten.conv2d.padding)


def tensor(module: GraphModule, node: Any) -> Any:
    """Return the constant tensor of a node, None if it has none."""
    return None if node is None else attrgetter(node.target)(module).detach()


def constant(module: GraphModule, reader: Node, name: str, value: Tensor) -> Node:
    """Add a tensor to the module; return the node that reads it."""
    module.register_buffer(name, value.detach())
    with module.graph.inserting_before(reader):
        return module.graph.get_attr(name)


def before(module: GraphModule, node: Node, operator: Any, *arguments: Any) -> Node:
    """Insert an operator in front of a node; return the new node."""
    with module.graph.inserting_before(node):
        return module.graph.call_function(operator, arguments)


def replace(module: GraphModule, node: Node, operator: Any, *arguments: Any) -> None:
    """Replace a node by another operator."""
    replacement = before(module, node, operator, *arguments)
    replacement.meta = dict(node.meta)
    node.replace_all_uses_with(replacement)
    module.graph.erase_node(node)
