"""The exported graph of a network, with nested graphs inlined.

`torch.export` makes a nested graph of a block under `torch.no_grad()` or `torch.autocast`. Neither changes which channel is
which, so the nested operations are moved into the graph around them. Operations that ran under autocast then run in the
precision of the weights.
"""

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx

# The higher-order operations that call a nested graph -> the index of their first operand. The graph is the argument before
# it.
_OPERANDS = {
    torch.ops.higher_order.wrap_with_set_grad_enabled: 2,
    torch.ops.higher_order.wrap_with_autocast: 5,
}
# Compares the precision of a value with the one at export, which differs where a block of autocast was inlined.
_CHECK = torch.ops.aten._assert_tensor_metadata.default


def graph_of(program: torch.export.ExportedProgram) -> fx.GraphModule:
    """Return the module of an exported program as one graph without nested ones."""
    module: Any = program.module(check_guards=False)
    if not isinstance(module, fx.GraphModule):
        raise TypeError(f"torch.export gave a {type(module).__name__}")
    for block in _blocks(module.graph):
        _inline(module, block)
    for node in list(module.graph.nodes):
        if node.target is _CHECK:
            module.graph.erase_node(node)
    module.recompile()
    return module


def _blocks(graph: fx.Graph) -> Iterator[fx.Node]:
    """Yield the nested graphs until there are none; those within another one appear when that one is inlined."""
    while (block := next((node for node in graph.nodes if node.target in _OPERANDS), None)) is not None:
        yield block


def _inline(module: fx.GraphModule, block: fx.Node) -> None:
    first = _OPERANDS[block.target]  # type: ignore[index]
    body, operands = block.args[first - 1], iter(block.args[first:])
    path = str(body.target)  # type: ignore[union-attr]
    values: dict[fx.Node, Any] = {}
    results: Any = ()
    with module.graph.inserting_before(block):
        for node in module.get_submodule(path).graph.nodes:  # type: ignore[union-attr]
            if node.op == "placeholder":
                values[node] = next(operands)
            elif node.op == "output":
                results = fx.node.map_arg(node.args[0], values.__getitem__)
            else:
                values[node] = module.graph.node_copy(node, values.__getitem__)
                if node.op in ("get_attr", "call_module"):
                    values[node].target = f"{path}.{node.target}"
    for taken in list(block.users):
        if taken.target is not operator.getitem:
            raise TypeError(f"the results of a block are read by {taken.target}")
        taken.replace_all_uses_with(results[taken.args[1]])
        module.graph.erase_node(taken)
    module.graph.erase_node(block)
