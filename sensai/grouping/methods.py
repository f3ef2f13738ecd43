"""The methods by name, and what holds for all of them. K classes, G groups."""

from sensai.errors import InputError
from sensai.grouping.cheapest import min_flops
from sensai.grouping.clusters import kmeans, spectral
from sensai.grouping.drawn import best_drawn, drawn
from sensai.grouping.evidence import Evidence, Method
from sensai.grouping.partitions import Group, singletons
from sensai.grouping.swaps import least_similar, most_similar

METHODS: dict[str, Method] = {
    "random": drawn,
    "best_of_random": best_drawn,
    "kmeans": kmeans,
    "spectral": spectral,
    "most_similar": most_similar,
    "least_similar": least_similar,
    "min_flops": min_flops,
}


def form_groups(method: str, evidence: Evidence, n_groups: int, seed: int) -> list[Group]:
    """A partition into groups whose sizes differ by at most one.

    Args:
        method: a name in `METHODS`.
        evidence: what groups are formed by.
        n_groups: G; 1 is the control.
        seed: of what is drawn.

    Raises:
        InputError: more groups than classes.
    """
    if n_groups > evidence.num_classes:
        raise InputError(f"n_groups={n_groups}: there are only {evidence.num_classes} classes")
    # Of these there is but one partition, and no method need know how to find it.
    if n_groups == 1:
        return [tuple(range(evidence.num_classes))]
    if n_groups == evidence.num_classes:
        return singletons(evidence.num_classes)
    return METHODS[method](evidence, n_groups, seed)
