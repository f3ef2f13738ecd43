"""Which sites may be emptied: those without which the logits still depend on the image, as beside a residual connection."""

from collections.abc import Collection, Sequence

from torch import fx

from sensai.sites.tracing import caller


def find_branches(graph: fx.Graph, adders: dict[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Site that may be emptied -> the sites that are of no more use then, itself among them.

    All of them may be emptied at once: where only several together cut the logits off the image, the last of them is left out.

    Args:
        graph: of the exported network.
        adders: site -> the layers that make its channels.
    """
    branches: dict[str, tuple[str, ...]] = {}
    emptied: set[str] = set()
    for site, layers in adders.items():
        if _live(graph, emptied.union(layers)):
            emptied.update(layers)
            live = _live(graph, layers)
            branches[site] = tuple(other for other, own in adders.items() if live.isdisjoint(own))
    return branches


def _live(graph: fx.Graph, without: Collection[str]) -> set[str]:
    """The layers on ways from the image to the output that lead around some layers; none where there is no such way."""
    fed: set[fx.Node] = set()
    for node in graph.nodes:
        reads = node.op == "placeholder" or not fed.isdisjoint(node.all_input_nodes)
        if reads and caller(node) not in without:
            fed.add(node)
    live: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node in fed and (node.op == "output" or not live.isdisjoint(node.users)):
            live.add(node)
    return {caller(node) for node in live}
