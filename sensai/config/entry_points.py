"""The configuration of every entry point: sections of parameters, composed."""

from collections.abc import Set
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from sensai.config.bounds import MOST_SEED, RunId
from sensai.config.entry_point import EntryPoint
from sensai.config.sections.cut import Activations, Group, Prune
from sensai.config.sections.data_and_base import Baseline, Common, FromRun
from sensai.config.sections.registered_versions import Predict, Promote, Serve
from sensai.config.sections.searches import Contention, GroupingStudy, Tune
from sensai.config.sections.trained import Evaluate, Main, Register, Report, Retrain
from sensai.config.usage import Usage, parameters_of

# The stages that a study varies.
_SEARCHED_STAGES = {"group", "prune", "retrain"}


class StageConfig(Common):
    """The parameters of one stage of the pipeline."""

    def fingerprint_parameters(self) -> dict[str, Any]:
        """Return the parameters that enter the fingerprint of this stage."""
        known = parameters_of(type(self))
        return self.model_dump(include={name for name, each in known.items() if each.enters(self.stage, self)})

    def upstream(self, config: "type[StageConfig]") -> "StageConfig":
        """Return the configuration of an earlier stage: these values, without `force`, `from_run` and ignored parameters."""
        left = {"force", "from_run"} | self.ignored()
        return config.model_validate(self.model_dump(include=set(config.model_fields) - left))

    @classmethod
    def inherited_names(cls) -> set[str]:
        """Return the parameters that a run inherits from the run that it stands on."""
        return {name for name, each in parameters_of(cls).items() if not each.usage.operational}

    def _digested(self, names: Set[str]) -> dict[str, Any]:
        """Return the values of parameters, without later ones that have their default."""
        known = parameters_of(type(self))
        return self.model_dump(include={name for name in names if not known[name].is_as_before(self)})

    @classmethod
    def searched_names(cls) -> set[str]:
        """Return the parameters that `tune` may search."""
        return {
            name
            for name, each in parameters_of(cls).items()
            if each.in_fingerprints and each.usage.search and each.stages & _SEARCHED_STAGES
        }


class BaselineConfig(Baseline, StageConfig):
    stage = "baseline"


class ActivationsConfig(Activations, FromRun, StageConfig):
    stage = "activations"

    def fingerprint_parameters(self) -> dict[str, Any]:
        # There are two kinds of pass. Stored runs call the one with a backward pass after the first criterion that took it.
        backward = {"criterion": "taylor"} if self.needs_backward else {}
        return super().fingerprint_parameters() | backward


class GroupConfig(Group, FromRun, StageConfig):
    stage = "group"


class PruneConfig(Prune, FromRun, StageConfig):
    stage = "prune"


class RetrainConfig(Retrain, FromRun, StageConfig):
    stage = "retrain"


class EvaluateConfig(Evaluate, FromRun, StageConfig):
    stage = "evaluate"


class RegisterConfig(Register, FromRun, StageConfig):
    stage = "register"


class MainConfig(Main, StageConfig):
    stage = "main"


class ReportConfig(Report, FromRun, StageConfig):
    stage = "report"

    from_run: Annotated[RunId, Usage(operational=True)] = Field(
        "",
        description="id of the run of evaluate to stand on, whose parameters are inherited; or of tune: the study's page",
    )

    @model_validator(mode="after")
    def _runs_compared_by_themselves(self) -> Self:
        others = [f"{name}={value!r}" for name in ("from_run", "yardstick_runs") if (value := self.text(name))]
        if self.compare_runs and others:
            compared = ",".join(self.compare_runs)
            raise ValueError(f"compare_runs={compared!r}: stands by itself, without {' and '.join(others)}")
        return self


class GroupingStudyConfig(GroupingStudy, FromRun, StageConfig):
    stage = "grouping_study"

    def cell(self, **values: Any) -> EvaluateConfig:
        """Return the configuration of one cell: these parameters with its own method, n_groups, ratio, seed, ..."""
        shared = set(EvaluateConfig.model_fields) - {"method", "n_groups", "ratio", "seed", "from_run"}
        return EvaluateConfig.model_validate(self.model_dump(include=shared) | values)

    def shared_parameters(self) -> dict[str, Any]:
        """Return the parameters that all cells share, without those of the activations."""
        later = {name for name, each in parameters_of(EvaluateConfig).items() if each.owner == "evaluate"}
        return self._digested((self.searched_names() | later) - self.ignored())

    @model_validator(mode="after")
    def _seeds_count_up(self) -> Self:
        if self.seed + self.repeats - 1 > MOST_SEED:
            raise ValueError(f"repeats={self.repeats}: with seed={self.seed} the last seed would be above {MOST_SEED}")
        return self

    def ignored(self) -> set[str]:
        """Return the parameters that make no difference in any cell."""
        of_cells = [self.cell(method=method, n_groups=2).ignored() for method in self.methods]
        own = {name for name in super().ignored() if parameters_of(type(self))[name].owner == self.stage}
        return set.intersection(*of_cells) | {"method", "n_groups", "ratio"} | own

    def fingerprint_parameters(self) -> dict[str, Any]:
        return super().fingerprint_parameters() | self.shared_parameters() | {"seed": self.seed}


class TuneConfig(Tune, StageConfig):
    stage = "tune"

    def trial(self, **values: Any) -> RetrainConfig:
        """Return the configuration of one trial: these parameters with its own values."""
        shared = set(RetrainConfig.model_fields) - {"from_run", "force"}
        return RetrainConfig.model_validate(self.model_dump(include=shared) | values)

    def chosen(self, values: dict[str, Any]) -> RegisterConfig:
        """Return the configuration that registers a trial's ensemble, given that of the trial's last run."""
        shared = set(RegisterConfig.model_fields) - {"from_run", "force"}
        own = {name for name, each in parameters_of(RegisterConfig).items() if each.in_fingerprints}
        return RegisterConfig.model_validate(
            self.model_dump(include=shared) | {name: values[name] for name in own if name in values}
        )

    def shared_parameters(self) -> dict[str, Any]:
        """Return the parameters that all trials share, unless the space varies them.

        Those of the activations are left out.
        """
        return self._digested(RetrainConfig.searched_names() - {"epochs"})


class ContentionConfig(Contention, FromRun, StageConfig):
    stage = "contention"


class PromoteConfig(Promote):
    stage = "promote"


class PredictConfig(Predict):
    stage = "predict"


class ServeConfig(Serve):
    stage = "serve"


# In the order in which they run.
CONFIGS: dict[str, type[EntryPoint]] = {
    config.stage: config
    for config in (
        MainConfig,
        BaselineConfig,
        ActivationsConfig,
        GroupConfig,
        PruneConfig,
        RetrainConfig,
        EvaluateConfig,
        RegisterConfig,
        PromoteConfig,
        PredictConfig,
        ServeConfig,
        ReportConfig,
        TuneConfig,
        ContentionConfig,
        GroupingStudyConfig,
    )
}
