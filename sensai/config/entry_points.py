"""The configuration of every entry point, and what is said of a bad one.

Every parameter of a stage enters its fingerprint, but for those in `NOT_IN_FINGERPRINT` and those that its `ignored` names
for the chosen method.
"""

import difflib
from typing import Any, ClassVar, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from sensai.config.bounds import MOST_SEED, RunId
from sensai.config.parameter_types import parse_methods
from sensai.config.parameters import (
    Activations,
    Baseline,
    Common,
    Contention,
    Evaluate,
    FromRun,
    Group,
    GroupingStudy,
    Main,
    Predict,
    Promote,
    Prune,
    Register,
    Report,
    Retrain,
    Serve,
    Tune,
)
from sensai.documents import shown
from sensai.errors import InputError
from sensai.policy.criteria import CRITERIA

# What cannot change a result, or enters it by content (data, checkpoint, groups file) or in some stages only (criterion, seed).
NOT_IN_FINGERPRINT = frozenset(
    {
        *("data_dir", "checkpoint", "groups_file", "criterion", "seed"),
        *("shards", "device", "jobs", "threads", "backend", "ray_address", "force", "work_dir", "traceback"),
    }
)

# The configuration is stored as a tag, which MLflow cuts at this length.
_LONGEST_TAG = 8000


class EntryPoint(BaseModel):
    """The parameters of one entry point."""

    stage: ClassVar[str]

    traceback: bool = Field(
        False,
        description="print the traceback of what goes wrong; that of an unexpected error is kept in any case, in a file and "
        "as an artifact",
    )

    @model_validator(mode="after")
    def _fits_into_a_tag(self) -> Self:
        if (length := len(self.model_dump_json())) > _LONGEST_TAG:
            raise ValueError(
                f"all parameters together must have at most {_LONGEST_TAG} characters as JSON, not {length}"
            )
        return self


class StageConfig(Common, EntryPoint):
    """The parameters of one stage of the pipeline."""

    adds: ClassVar[type[Common]]

    @classmethod
    def own_parameters(cls) -> set[str]:
        """The parameters that this stage adds to those of the stage before it."""
        before = cls.adds.__mro__[1]
        inherited = set(before.model_fields) if before is not Common and issubclass(before, Common) else set()
        return set(cls.adds.model_fields) - inherited

    def fingerprint_parameters(self) -> dict[str, Any]:
        """The parameters of this very stage that its result depends on."""
        return self.model_dump(include=self.own_parameters() - NOT_IN_FINGERPRINT - self.ignored())

    def upstream(self, config: "type[StageConfig]") -> "StageConfig":
        """The configuration of an earlier stage with these values, but for `force`, `from_run` and what is ignored."""
        left = {"force", "from_run"} | self.ignored()
        return config.model_validate(self.model_dump(include=set(config.model_fields) - left))


class BaselineConfig(Baseline, StageConfig):
    stage = "baseline"
    adds = Baseline


class ActivationsConfig(Activations, FromRun, StageConfig):
    stage = "activations"
    adds = Activations

    def fingerprint_parameters(self) -> dict[str, Any]:
        # There are two kinds of pass. Stored runs call the one with a backward pass after the first criterion that took it.
        backward = {"criterion": "taylor"} if self.needs_backward else {}
        return super().fingerprint_parameters() | backward


class GroupConfig(Group, FromRun, StageConfig):
    stage = "group"
    adds = Group

    def fingerprint_parameters(self) -> dict[str, Any]:
        return super().fingerprint_parameters() | ({"seed": self.seed} if self.sampled else {})


class PruneConfig(Prune, FromRun, StageConfig):
    stage = "prune"
    adds = Prune

    def fingerprint_parameters(self) -> dict[str, Any]:
        # Parameters of earlier stages that this one goes by too.
        shared = {"scope": self.scope} | ({"ratio": self.ratio} if self.by_ratio else {})
        if "criterion" in self.ignored():
            return super().fingerprint_parameters() | shared
        seed = {"seed": self.seed} if "seed" in CRITERIA[self.criterion].uses else {}
        return super().fingerprint_parameters() | shared | {"criterion": self.criterion} | seed


class RetrainConfig(Retrain, FromRun, StageConfig):
    stage = "retrain"
    adds = Retrain

    def fingerprint_parameters(self) -> dict[str, Any]:
        # Stored runs are older than these two parameters, and were made with what is their default now.
        later = {
            name for name in ("schedule", "stop_rules") if getattr(self, name) == type(self).model_fields[name].default
        }
        own = {name: value for name, value in super().fingerprint_parameters().items() if name not in later}
        return own | ({"seed": self.seed} if self.epochs else {})


class EvaluateConfig(Evaluate, FromRun, StageConfig):
    stage = "evaluate"
    adds = Evaluate


class RegisterConfig(Register, FromRun, StageConfig):
    stage = "register"
    adds = Register


class MainConfig(Main, StageConfig):
    stage = "main"
    adds = Main


class ReportConfig(Report, FromRun, StageConfig):
    stage = "report"
    adds = Report

    from_run: RunId = Field(
        "",
        description="id of the run of evaluate to stand on, whose parameters are inherited; or of tune: the study's page",
    )

    @model_validator(mode="after")
    def _runs_compared_by_themselves(self) -> Self:
        others = [f"{name}={value!r}" for name in ("from_run", "control_run") if (value := getattr(self, name))]
        if self.compare_runs and others:
            raise ValueError(f"compare_runs={self.compare_runs!r}: stands by itself, without {' and '.join(others)}")
        return self


class GroupingStudyConfig(GroupingStudy, FromRun, StageConfig):
    stage = "grouping_study"
    adds = GroupingStudy

    def cell(self, **values: Any) -> EvaluateConfig:
        """The configuration of one cell: these parameters with the method, n_groups, ratio, seed, ... that are its own."""
        shared = set(EvaluateConfig.model_fields) - {"method", "n_groups", "ratio", "seed", "from_run"}
        return EvaluateConfig.model_validate(self.model_dump(include=shared) | values)

    def shared_parameters(self) -> dict[str, Any]:
        """What the results of all cells depend on alike, beside the activations."""
        later = set(EvaluateConfig.model_fields) - set(ActivationsConfig.model_fields) - NOT_IN_FINGERPRINT
        return self.model_dump(include=(later | {"criterion"}) - self.ignored())

    @model_validator(mode="after")
    def _seeds_count_up(self) -> Self:
        if self.seed + self.repeats - 1 > MOST_SEED:
            raise ValueError(f"repeats={self.repeats}: with seed={self.seed} the last seed would be above {MOST_SEED}")
        return self

    def ignored(self) -> set[str]:
        of_cells = [self.cell(method=method, n_groups=2).ignored() for method in parse_methods(self.methods)]
        untrained = set() if self.epochs else {"control"}
        return set.intersection(*of_cells) | {"method", "n_groups", "ratio"} | untrained

    def fingerprint_parameters(self) -> dict[str, Any]:
        return super().fingerprint_parameters() | self.shared_parameters() | {"seed": self.seed}


class TuneConfig(Tune, StageConfig):
    stage = "tune"
    adds = Tune

    def trial(self, **values: Any) -> RetrainConfig:
        """The configuration of one trial: these parameters with the values that are its own."""
        shared = set(RetrainConfig.model_fields) - {"from_run", "force"}
        return RetrainConfig.model_validate(self.model_dump(include=shared) | values)

    def chosen(self, values: dict[str, Any]) -> RegisterConfig:
        """The configuration that registers a trial's ensemble, from that of the trial's last run."""
        shared = set(RegisterConfig.model_fields) - {"from_run", "force"}
        own = (set(RegisterConfig.model_fields) - NOT_IN_FINGERPRINT - {"from_run"}) | {"criterion", "seed"}
        return RegisterConfig.model_validate(
            self.model_dump(include=shared) | {name: values[name] for name in own if name in values}
        )

    def shared_parameters(self) -> dict[str, Any]:
        """What the results of all trials depend on alike, where the space does not say otherwise, beside the activations."""
        later = set(RetrainConfig.model_fields) - set(ActivationsConfig.model_fields) - NOT_IN_FINGERPRINT
        return self.model_dump(include=(later | {"criterion"}) - {"from_run", "epochs"})


class ContentionConfig(Contention, FromRun, StageConfig):
    stage = "contention"
    adds = Contention

    def fingerprint_parameters(self) -> dict[str, Any]:
        # Elsewhere they change no result; here they are what is measured.
        return super().fingerprint_parameters() | {"jobs": self.jobs, "threads": self.threads}


class PromoteConfig(Promote, EntryPoint):
    stage = "promote"


class PredictConfig(Predict, EntryPoint):
    stage = "predict"


class ServeConfig(Serve, EntryPoint):
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


def describe_errors(error: ValidationError) -> str:
    """One line for all bad parameters of a call: name, value, what is allowed."""
    return "; ".join(_describe(details) for details in error.errors(include_url=False))


def refusal(config: type[EntryPoint], name: str, value: object) -> str:
    """Why a parameter may not have a value of a file, whatever the others are; empty where it may.

    Unlike on the command line a text is no number there, and a number no truth value.
    """
    try:
        config.model_validate({name: value}, strict=True)
    except ValidationError as error:
        return "; ".join(_describe(each) for each in error.errors(include_url=False) if each["loc"][:1] == (name,))
    return ""


def _describe(details: Any) -> str:
    message = details["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if not details["loc"]:
        return message
    return f"{details['loc'][0]}={shown(details['input'])}: {message}"


def unknown_parameter(name: str, config: type[EntryPoint]) -> InputError:
    """The error for a parameter that a stage does not take, with the near miss."""
    near = difflib.get_close_matches(name, config.model_fields, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(config.model_fields)}"
    return InputError(f"{shown(name)} is no parameter of {config.stage}; {hint}")
