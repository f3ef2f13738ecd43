"""The parameters of the trained ensemble: retraining, evaluation, the registered version, the report."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sensai.config.bounds import (
    BatchSize,
    Epochs,
    EpochsOrNone,
    ImagesAtOnce,
    LearningRate,
    ModelName,
    OptionalInnerShare,
    OptionalProcesses,
    OptionalShare,
    OptionalThreads,
    Penalty,
    RayAddress,
    RunId,
    Share,
    Steps,
)
from sensai.config.conditions import Above, Condition, Declares, Uses
from sensai.config.parameter_types import (
    Augment,
    LossName,
    OptionalBudget,
    OptionalCombineMethod,
    RunIds,
    RuntimeName,
    ScheduleName,
    StopRules,
)
from sensai.config.sections.cut import Prune
from sensai.config.sections.data_and_base import RETRAINED
from sensai.config.usage import Among, Usage
from sensai.ensemble.combiners import COMBINERS
from sensai.runtimes.implementations import RUNTIMES
from sensai.training.losses import LOSSES
from sensai.training.schedules import SCHEDULES
from sensai.training.stop_rules import STOP_RULES
from sensai.training.stopping import DEFAULT_STOP_RULES, unused_by

JOINT = Declares("loss", LOSSES, "joint")
TAUGHT = Uses("loss", LOSSES, "kd_weight")
TRAINING = Usage(when=RETRAINED)
WHERE_IT_TRAINS = Usage(when=RETRAINED, operational=True)


@dataclass(frozen=True)
class StopRulesTake(Condition):
    """One of the stop rules that are asked takes a certain input."""

    input: str

    def __call__(self, config: object) -> bool | None:
        if not isinstance(config, Retrain):
            return None
        return self.input not in unused_by(config.stop_rules, config.patience, config.target)

    def __str__(self) -> str:
        return f"a stop rule takes {self.input}"

    @property
    def names(self) -> frozenset[str]:
        return frozenset({"stop_rules", "patience", "target"})


class Retrain(Prune):
    """How the members are trained after the cut."""

    owner = "retrain"

    epochs: Annotated[EpochsOrNone, Usage(everyday=True)] = Field(
        20, description="most epochs of each member; 0 passes them on as they were cut"
    )
    cut_steps: Annotated[Steps, TRAINING] = Field(
        1, description="the cut is made in so many steps, with training in between"
    )
    cut_epochs: Annotated[Epochs, Usage(when=RETRAINED & Above("cut_steps", 1))] = Field(
        1, description="most epochs of each member after each step but the last"
    )
    lr: Annotated[LearningRate, TRAINING] = Field(0.05, description="peak learning rate of the schedule")
    schedule: Annotated[ScheduleName, Usage(when=RETRAINED, later=True)] = Field(
        "one_cycle", description=f"course of the learning rate; {SCHEDULES.help}"
    )
    batch_size: Annotated[BatchSize, TRAINING] = Field(64, description="images a step")
    weight_decay: Annotated[Penalty, TRAINING] = Field(5e-4, description="L2 penalty")
    loss: Annotated[
        LossName,
        Usage(when=RETRAINED, search=Among(("bce", "kd", "joint", "joint_kd"))),
    ] = Field("bce", description=LOSSES.help)
    kd_weight: Annotated[Share, Usage(when=RETRAINED & TAUGHT)] = Field(
        0.5, description="share of the target that is the base model's"
    )
    balance: Annotated[Literal["weight", "sample"], Usage(when=RETRAINED & ~JOINT)] = Field(
        "weight",
        description="how a class counts as much as all others together: weight of its images, or sample of the others",
    )
    precision: Annotated[Literal["auto", "fp32", "bf16"], TRAINING] = Field(
        "auto", description="auto: what a short measurement finds faster"
    )
    augmentation: Annotated[Augment, TRAINING] = Field(
        "auto", description="auto: crop, and mirroring where images are no symbols"
    )
    stop_rules: Annotated[StopRules, Usage(when=RETRAINED, later=True)] = Field(
        DEFAULT_STOP_RULES, description=f"rules that stop a member, separated by commas; {STOP_RULES.help}"
    )
    patience: Annotated[EpochsOrNone, Usage(when=RETRAINED & StopRulesTake("patience"))] = Field(
        0, description="stop a member after so many epochs without gain; 0: never"
    )
    min_gain: Annotated[Share, Usage(when=RETRAINED & StopRulesTake("min_gain"))] = Field(
        0.0, description="what counts as gain in the validation metric"
    )
    target: Annotated[OptionalShare, Usage(when=RETRAINED & StopRulesTake("target"))] = Field(
        None, description="stop a member once its validation metric has reached this"
    )
    budget: Annotated[OptionalBudget, TRAINING] = Field(
        None,
        description="of all members together after each cut, e.g. 90epochs or 600s; spent where validation gains most a "
        "second; learning rates still follow a schedule of `epochs` each",
    )
    jobs: Annotated[OptionalProcesses, WHERE_IT_TRAINS] = Field(
        None, description="workers that train side by side (default: one a core, or one a GPU)"
    )
    threads: Annotated[OptionalThreads, WHERE_IT_TRAINS] = Field(
        None, description="threads of each worker (default: the cores dealt out)"
    )
    backend: Annotated[Literal["local", "ray"], WHERE_IT_TRAINS] = Field(
        "local",
        description="local: workers are processes of this machine; ray: tasks of a cluster that all sees work_dir",
    )
    ray_address: Annotated[RayAddress, WHERE_IT_TRAINS] = Field(
        "",
        description="host:port of a running Ray cluster, or auto (default: a Ray of this machine, for this run alone)",
    )

    @model_validator(mode="after")
    def _address_goes_with_ray(self) -> Self:
        if self.ray_address and self.backend != "ray":
            raise ValueError(f"ray_address={self.ray_address!r}: goes with backend=ray")
        return self


class Evaluate(Retrain):
    """The one reading of the test split."""

    owner = "evaluate"

    combine: OptionalCombineMethod = Field(
        None,
        description="how the members' outputs become class probabilities, fitted on validation data: "
        f"{COMBINERS.help} (default: the likeliest on validation images held out; without validation data raw)",
    )
    reject: OptionalInnerShare = Field(
        None,
        description="share of the validation images, the least sure, below whose largest probability the answer is "
        "none of them (default: never)",
    )
    runtime: RuntimeName = Field(
        "auto",
        description=f"what latencies are measured in: auto, the fastest of the device's; {RUNTIMES.help}",
    )
    int8: bool = Field(
        False, description="also measure the members in 8-bit integers: their latency, and their accuracy beside it"
    )
    latency_batch_size: ImagesAtOnce = Field(1, description="images at a time when latencies are measured")


class Register(Evaluate):
    """The ensemble as a version in the model registry."""

    owner = "register"

    model_name: ModelName = Field("sensai-ensemble", description="registered model that gets the version")
    image_dtype: Literal["uint8", "float32"] = Field(
        "uint8", description="of the images that the version takes: uint8 from 0 to 255, float32 from 0 to 1"
    )
    image_layout: Literal["NHWC", "NCHW"] = Field("NHWC", description="of these images: channels last or first")


class Main(Register):
    """The whole pipeline."""

    owner = "main"

    control: bool = Field(
        True, description="also prune and retrain one K-way network to the FLOPs of the largest member, the yardstick"
    )


class Report(Evaluate):
    """What the page is about, and what is set beside each other on it."""

    owner = "report"

    control_run: RunId = Field("", description="evaluate run of the control, shown beside the ensemble")
    compare_runs: RunIds = Field(
        (), description="ids of two or more runs, separated by commas: the page sets these beside each other instead"
    )
