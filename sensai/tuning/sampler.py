"""The sampler of a study that several workers share, that can be resumed, and that repeats some configurations."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState


class TrialSampler(BaseSampler):
    """TPE that is seeded anew for each trial, by the seed and the number of the trial.

    So two workers never sample the same, and a resumed study samples what it would have sampled without the interruption.

    Attributes:
        fixed: parameter -> the value of the next trial.
        random: True if the other parameters are sampled uniformly from the whole space.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._number: int | None = None
        self._drawing: BaseSampler = RandomSampler(seed)
        self.fixed: Mapping[str, Any] = {}
        self.random = False

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Implement BaseSampler."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Implement BaseSampler."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Implement BaseSampler."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Implement BaseSampler."""
        self._of(trial).after_trial(study, trial, state, values)

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self._number:
            self._number = trial.number
            seed = int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0])
            drawing = RandomSampler(seed) if self.random else TPESampler(seed=seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                self._drawing = PartialFixedSampler(dict(self.fixed), drawing)
        return self._drawing
