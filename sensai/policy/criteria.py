"""In which order channels are dispensable. C channels of a site.

A criterion gives every site's sort keys, float64 (keys, C): the smaller goes first, the second key settles ties of the first,
and a channel that nothing is known of is at infinity. The keys of all sites are on one scale, so that they rank together.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
from torch import Tensor, nn

from sensai.activations import Statistics
from sensai.sites import Site

# Of the statistics of every site and the member's classes.
Criterion = Callable[[Statistics, Sequence[int]], dict[str, np.ndarray]]


def apoz(statistics: Statistics, classes: Sequence[int]) -> dict[str, np.ndarray]:
    """The highest share of zeros first, of equal ones the smaller mean (Hu et al. 2016)."""
    return {
        site: _known_first(np.stack([-values.apoz(classes), values.mean(classes)]))
        for site, values in statistics.items()
    }


def mean(statistics: Statistics, classes: Sequence[int]) -> dict[str, np.ndarray]:
    """The smallest mean |activation| first."""
    return {site: _known_first(values.mean(classes)[None]) for site, values in statistics.items()}


def taylor(statistics: Statistics, classes: Sequence[int]) -> dict[str, np.ndarray]:
    """The smallest change of the loss to first order first, each site's scaled to an L2 norm of 1 (Molchanov et al. 2017).

    Raises:
        ValueError: the statistics were read without a backward pass.
    """
    return {site: _known_first(_scaled(values.taylor(classes))[None]) for site, values in statistics.items()}


def filter_norms(norms: Mapping[str, np.ndarray]) -> Criterion:
    """The smallest sum of the filter's |weights| first, for all classes alike (Li et al. 2017, "Pruning Filters for Efficient
    ConvNets"); each site's scaled to an L2 norm of 1, since filters of different sizes have different sums.

    Args:
        norms: site -> float64 (C,), see `norms_of_filters`.
    """

    def criterion(statistics: Statistics, classes: Sequence[int]) -> dict[str, np.ndarray]:
        return {site: _scaled(norms[site])[None] for site in statistics}

    return criterion


def norms_of_filters(model: nn.Module, sites: Sequence[Site]) -> dict[str, np.ndarray]:
    """Site -> float64 (C,): the sum of |weights| that make each channel, of all layers whose outputs are added up to it."""
    return {
        site.name: np.sum(
            [
                _filter_sums(model, cut.layer)[cut.index].sum(axis=1)
                for cut in site.cuts
                if cut.side == "out" and cut.layer in site.adders
            ],
            axis=0,
        )
        for site in sites
    }


def random_order(seed: int) -> Criterion:
    """An order that is drawn for each set of classes, and depends on nothing else but the seed: what a criterion must beat."""

    def criterion(statistics: Statistics, classes: Sequence[int]) -> dict[str, np.ndarray]:
        generator = np.random.default_rng([seed, *classes])
        return {site: generator.random((1, values.zeros.shape[1])) for site, values in statistics.items()}

    return criterion


def _known_first(keys: np.ndarray) -> np.ndarray:
    return np.nan_to_num(keys, nan=np.inf, posinf=np.inf)


def _scaled(values: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(values)
    return values / norm if norm else values


def _filter_sums(model: nn.Module, layer: str) -> np.ndarray:
    """float64 (outputs,): sum of |weights| by output."""
    weight = cast(Tensor, model.get_submodule(layer).weight)
    return weight.detach().double().abs().flatten(1).sum(1).cpu().numpy()
