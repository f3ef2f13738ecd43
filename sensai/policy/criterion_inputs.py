"""The inputs that criteria rank channels by. C channels of a site."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from torch import Tensor, nn

from sensai.activations import Statistics
from sensai.policy.criteria import CRITERIA
from sensai.sites import Site

# Returns site -> sort keys float64 (keys, C), from the statistics of every site and the member's classes.
Criterion = Callable[[Statistics, Sequence[int]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class CriterionInputs:
    """The inputs that a criterion may use for one member (see `sensai.policy.criteria`).

    Attributes:
        statistics: of every site.
        classes: of the member; the channels are judged on their images.
        seed: of what is sampled.
        measure_norms: returns site -> float64 (C,), see `norms_of_filters`; called only for criteria that use it.
    """

    statistics: Statistics
    classes: Sequence[int]
    seed: int
    measure_norms: Callable[[], Mapping[str, np.ndarray]]

    @property
    def apoz(self) -> dict[str, np.ndarray]:
        """Return site -> float64 (C,): share of zeros, NaN where the classes have no images."""
        return {site: values.apoz(self.classes) for site, values in self.statistics.items()}

    @property
    def mean(self) -> dict[str, np.ndarray]:
        """Return site -> float64 (C,): mean absolute activation, NaN where the classes have no images."""
        return {site: values.mean(self.classes) for site, values in self.statistics.items()}

    @property
    def sensitivity(self) -> dict[str, np.ndarray]:
        """Return site -> float64 (C,): first-order change of the loss.

        Raises:
            ValueError: the statistics were read without a backward pass.
        """
        return {site: values.taylor(self.classes) for site, values in self.statistics.items()}

    @cached_property
    def filter_norms(self) -> dict[str, np.ndarray]:
        """Return site -> float64 (C,): sum of the absolute weights that make the channel."""
        norms = self.measure_norms()
        return {site: norms[site] for site in self.statistics}

    @property
    def channels(self) -> dict[str, int]:
        """Return site -> C."""
        return {site: values.zeros.shape[1] for site, values in self.statistics.items()}


def criterion_of(name: str, seed: int = 0, measure_norms: Callable[[], Mapping[str, np.ndarray]] = dict) -> Criterion:
    """Return the criterion of a name.

    Args:
        name: in `CRITERIA`.
        seed: of what it samples.
        measure_norms: returns the filter norms of every site; only for criteria that use `filter_norms`.

    Raises:
        InputError: no such criterion.
    """
    part = CRITERIA[name]

    def criterion(statistics: Statistics, classes: Sequence[int]) -> dict[str, np.ndarray]:
        keys = part(CriterionInputs(statistics, classes, seed, measure_norms))
        return {site: np.nan_to_num(values, nan=np.inf, posinf=np.inf) for site, values in keys.items()}

    return criterion


def norms_of_filters(model: nn.Module, sites: Sequence[Site]) -> dict[str, np.ndarray]:
    """Return site -> float64 (C,): the sum of |weights| of all layers whose outputs are added up to a channel."""
    return {
        site.name: np.sum(
            [
                _filter_sums(model, cut.layer)[cut.index].sum(axis=1)
                for cut in site.cuts
                if cut.side == "out" and cut.layer in site.producers
            ],
            axis=0,
        )
        for site in sites
    }


def scaled(values: np.ndarray) -> np.ndarray:
    """Return values scaled to an L2 norm of 1; zeros stay zeros."""
    norm = np.linalg.norm(values)
    return values / norm if norm else values


def _filter_sums(model: nn.Module, layer: str) -> np.ndarray:
    """Return float64 (outputs,): sum of |weights| by output."""
    weight = cast(Tensor, model.get_submodule(layer).weight)
    return weight.detach().double().abs().flatten(1).sum(1).cpu().numpy()
