"""Sites that may be emptied: without them the logits still depend on the image, for example beside a residual connection."""

from collections.abc import Collection, Sequence

from torch import fx

from sensai.sites.tracing import caller


def find_branches(graph: fx.Graph, producers: dict[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return each site that may be emptied -> the sites that are useless then, itself among them.

    All of them may be emptied at once. Where only several together cut the logits off the image, the last one is left out.

    Args:
        graph: of the exported network.
        producers: site -> the convolutions and linear layers that make its channels.
    """
    branches: dict[str, tuple[str, ...]] = {}
    emptied: set[str] = set()
    for site, layers in producers.items():
        if _live(graph, emptied.union(layers)):
            emptied.update(layers)
            live = _live(graph, layers)
            branches[site] = tuple(other for other, own in producers.items() if live.isdisjoint(own))
    return branches


def _live(graph: fx.Graph, without: Collection[str]) -> set[str]:
    """Return the layers on paths from the image to the output that avoid some layers; none where there is no such path."""
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
