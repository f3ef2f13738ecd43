"""The parameters of the trained ensemble: retraining, evaluation, the registered version, the report."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sensai.config.bounds import (
    BatchSize,
    Concentration,
    Epochs,
    EpochsOrNone,
    ImagesAtOnce,
    InnerShare,
    LearningRate,
    ModelName,
    OptionalInnerShare,
    OptionalProcesses,
    OptionalShare,
    OptionalThreads,
    Penalty,
    Ratio,
    RayAddress,
    Share,
    Steps,
    Temperature,
)
from sensai.config.conditions import Above, Condition, Declares, Is, Uses
from sensai.config.entry_point import Former
from sensai.config.parameter_types import (
    Augment,
    LossName,
    OptionalBudget,
    OptionalCombineMethod,
    RunIds,
    RuntimeName,
    ScheduleName,
    StopRules,
    YardstickRuns,
    Yardsticks,
)
from sensai.config.sections.cut import Prune
from sensai.config.sections.data_and_base import RETRAINED
from sensai.config.usage import Among, Usage
from sensai.ensemble.combiners import COMBINERS
from sensai.evaluation.roles import CONTROL, REPLICAS
from sensai.runtimes.implementations import RUNTIMES
from sensai.training.losses import LOSSES
from sensai.training.schedules import SCHEDULES
from sensai.training.stop_rules import STOP_RULES
from sensai.training.stopping import DEFAULT_STOP_RULES, unused_by

JOINT = Declares("loss", LOSSES, "joint")
TAUGHT = Uses("loss", LOSSES, "kd_weight")
WITH_DECAY = Uses("schedule", SCHEDULES, "decay_steps")
TRAINED_APART = RETRAINED & ~JOINT
TRAINING = Usage(when=RETRAINED)
LATER_IN_TRAINING = Usage(when=RETRAINED, later=True)
WHERE_IT_TRAINS = Usage(when=RETRAINED, operational=True)


@dataclass(frozen=True)
class StopRulesTake(Condition):
    """One of the chosen stop rules takes a certain input."""

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
    """The training of the members after the cut."""

    owner = "retrain"

    epochs: Annotated[EpochsOrNone, Usage(everyday=True)] = Field(
        20, description="most epochs of each member; 0: no training after the cut"
    )
    cut_steps: Annotated[Steps, TRAINING] = Field(1, description="number of steps of the cut, with training in between")
    cut_epochs: Annotated[Epochs, Usage(when=RETRAINED & Above("cut_steps", 1))] = Field(
        1, description="most epochs of each member after each step except the last"
    )
    initial_weights: Annotated[Literal["base", "random"], LATER_IN_TRAINING] = Field(
        "base", description="weights that members start from: those of the base model, or random ones"
    )
    lr: Annotated[LearningRate, TRAINING] = Field(0.05, description="peak learning rate of the schedule")
    schedule: Annotated[ScheduleName, LATER_IN_TRAINING] = Field(
        "one_cycle", description=f"course of the learning rate; {SCHEDULES.help}"
    )
    decay_epochs: Annotated[Epochs, Usage(when=RETRAINED & WITH_DECAY, later=True)] = Field(
        4,
        description="last epochs of each member, in which the learning rate falls; after a stop, the epochs that follow",
    )
    batch_size: Annotated[BatchSize, TRAINING] = Field(64, description="images per step")
    weight_decay: Annotated[Penalty, TRAINING] = Field(5e-4, description="L2 penalty")
    weight_averaging: Annotated[Literal["none", "ema"], LATER_IN_TRAINING] = Field(
        "none", description="ema: validate and keep the exponential moving average of the weights, not the last ones"
    )
    ema_decay: Annotated[InnerShare, Usage(when=RETRAINED & ~Is("weight_averaging", "none"), later=True)] = Field(
        0.99, description="weight of the average before each step"
    )
    loss: Annotated[
        LossName,
        Usage(when=RETRAINED, search=Among(("bce", "kd", "joint", "joint_kd"))),
    ] = Field("bce", description=LOSSES.help)
    kd_weight: Annotated[Share, Usage(when=RETRAINED & TAUGHT)] = Field(
        0.5, description="weight of the base model's probabilities in the target"
    )
    kd_temperature: Annotated[
        Temperature, Usage(when=RETRAINED & Uses("loss", LOSSES, "kd_temperature"), later=True)
    ] = Field(1.0, description="temperature at which members match the base model's probabilities")
    logit_standardization: Annotated[
        bool, Usage(when=RETRAINED & Uses("loss", LOSSES, "logit_standardization"), later=True)
    ] = Field(False, description="standardise the logits of base model and members before members match them")
    label_smoothing: Annotated[Ratio, LATER_IN_TRAINING] = Field(
        0.0, description="share of every label that is spread evenly over all classes"
    )
    balance: Annotated[Literal["weight", "sample"], Usage(when=TRAINED_APART)] = Field(
        "weight",
        description="balance a class against all others: weight its images, or sample the others",
    )
    precision: Annotated[Literal["auto", "fp32", "bf16"], TRAINING] = Field(
        "auto", description="auto: the faster one in a short measurement"
    )
    augmentation: Annotated[Augment, TRAINING] = Field(
        "auto", description="auto: crop, and mirror unless images are symbols"
    )
    auto_augment: Annotated[Literal["none", "trivialaugment"], LATER_IN_TRAINING] = Field(
        "none", description="trivialaugment: also one random operation of random strength on every image"
    )
    mix: Annotated[Literal["none", "mixup", "cutmix"], LATER_IN_TRAINING] = Field(
        "none", description="mixup: blend every image with another one of its batch; cutmix: paste a box of it"
    )
    mix_alpha: Annotated[Concentration, Usage(when=RETRAINED & ~Is("mix", "none"), later=True)] = Field(
        1.0, description="the share of an image is drawn from Beta(mix_alpha, mix_alpha)"
    )
    stop_rules: Annotated[StopRules, LATER_IN_TRAINING] = Field(
        DEFAULT_STOP_RULES, description=f"rules that stop a member, separated by commas; {STOP_RULES.help}"
    )
    patience: Annotated[EpochsOrNone, Usage(when=RETRAINED & StopRulesTake("patience"))] = Field(
        0, description="stop a member after this many epochs without gain; 0: never"
    )
    min_gain: Annotated[Share, Usage(when=RETRAINED & StopRulesTake("min_gain"))] = Field(
        0.0, description="smallest gain in the validation metric that counts"
    )
    target: Annotated[OptionalShare, Usage(when=RETRAINED & StopRulesTake("target"))] = Field(
        None, description="stop a member when its validation metric reaches this"
    )
    budget: Annotated[OptionalBudget, TRAINING] = Field(
        None,
        description="limit for all members together after each cut, e.g. 90epochs or 600s; goes to the members that gain "
        "most; schedules without a decay still span `epochs`",
    )
    jobs: Annotated[OptionalProcesses, WHERE_IT_TRAINS] = Field(
        None, description="number of workers that train in parallel (default: one per core, or one per GPU)"
    )
    threads: Annotated[OptionalThreads, WHERE_IT_TRAINS] = Field(
        None, description="threads of each worker (default: the cores divided by the workers)"
    )
    backend: Annotated[Literal["local", "ray"], WHERE_IT_TRAINS] = Field(
        "local",
        description="local: workers are processes of this machine; ray: tasks of a cluster whose machines all see work_dir",
    )
    ray_address: Annotated[RayAddress, WHERE_IT_TRAINS] = Field(
        "",
        description="host:port of a running Ray cluster, or auto (default: start Ray on this machine for this run)",
    )

    @model_validator(mode="after")
    def _address_goes_with_ray(self) -> Self:
        if self.ray_address and self.backend != "ray":
            raise ValueError(f"ray_address={self.ray_address!r}: goes with backend=ray")
        return self

    @model_validator(mode="after")
    def _a_sample_is_of_whole_images(self) -> Self:
        if self.mix != "none" and self.balance == "sample" and TRAINED_APART(self):
            raise ValueError(f"mix={self.mix!r}: goes with balance=weight; balance=sample takes images of one class")
        return self


class Evaluate(Retrain):
    """The evaluation on the test split, which is read once."""

    owner = "evaluate"

    combine: OptionalCombineMethod = Field(
        None,
        description="way to turn the members' outputs into class probabilities, fitted on validation data: "
        f"{COMBINERS.help} (default: the likeliest on held-out validation images; without validation data raw)",
    )
    reject: OptionalInnerShare = Field(
        None,
        description='share of validation images to reject; less sure images get the answer "none of them" '
        "(default: reject none)",
    )
    runtime: RuntimeName = Field(
        "auto",
        description=f"runtime that is timed; auto: the fastest on the device; {RUNTIMES.help}",
    )
    int8: bool = Field(False, description="also measure latency and accuracy of the members in 8-bit integers")
    latency_batch_size: ImagesAtOnce = Field(1, description="images per call when latencies are measured")


class Register(Evaluate):
    """The ensemble as a version in the model registry."""

    owner = "register"

    model_name: ModelName = Field("sensai-ensemble", description="registered model that gets the version")
    image_dtype: Literal["uint8", "float32"] = Field(
        "uint8", description="type of the input images: uint8 from 0 to 255, float32 from 0 to 1"
    )
    image_layout: Literal["NHWC", "NCHW"] = Field(
        "NHWC", description="layout of the input images: channels last or first"
    )


def _yardsticks_of_control(value: str) -> str:
    if value.lower() not in ("true", "false"):
        raise ValueError(f"control={value!r}: must be true or false, or better yardsticks=control or yardsticks=none")
    return CONTROL if value.lower() == "true" else "none"


class Main(Register):
    """The whole pipeline."""

    owner = "main"
    former = {"control": Former("yardsticks", _yardsticks_of_control, is_flag=True)}  # noqa: RUF012  (a ClassVar)

    yardsticks: Yardsticks = Field(
        (CONTROL, REPLICAS),
        description="networks to compare the ensemble with, separated by commas, or none; control: one K-way network with the "
        "FLOPs of the largest member; replicas: as many of these as members, averaged; control_equal_flops: a control with "
        "as many training FLOPs as the ensemble; base: the base model trained further; all by the members' recipe",
    )


class Report(Evaluate):
    """The runs that the page shows."""

    owner = "report"
    former = {"control_run": Former("yardstick_runs", lambda run_id: f"{CONTROL}={run_id}" if run_id else "")}  # noqa: RUF012

    yardstick_runs: Annotated[YardstickRuns, Usage(later=True)] = Field(
        (),
        description="evaluate runs of yardsticks, shown beside the ensemble, e.g. control=<run id>,replicas=<run id>",
    )
    compare_runs: RunIds = Field(
        (), description="ids of two or more runs, separated by commas, to compare instead of one evaluation"
    )
