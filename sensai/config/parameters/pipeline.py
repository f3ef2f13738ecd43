"""The parameters of every stage: names, types, defaults, and what each is for.

A stage also takes its upstream stages' parameters, so each set of parameters extends the one before it, in the order in
which data flows. Optional parameters default to empty.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sensai.config.bounds import (
    BatchSize,
    Channels,
    Epochs,
    EpochsOrNone,
    FilePath,
    ImagesAtOnce,
    InnerShare,
    LearningRate,
    Level,
    ModelName,
    Multiple,
    OptionalGroups,
    OptionalInnerShare,
    OptionalProcesses,
    OptionalShare,
    OptionalSide,
    OptionalThreads,
    Parts,
    Penalty,
    Ratio,
    RayAddress,
    RunId,
    Seed,
    Share,
    Steps,
    Text,
    WorkDir,
)
from sensai.config.parameter_types import (
    ArchName,
    Augment,
    Budgeted,
    ChannelValues,
    CriterionName,
    DatasetName,
    DeviceName,
    GroupMethod,
    JsonObject,
    LossName,
    OptionalCombineMethod,
    Patterns,
    PositiveChannelValues,
    Renames,
    RunIds,
    RuntimeName,
    ScheduleName,
    StopRules,
    parse_stop_rules,
)
from sensai.data.dataset_names import DATASETS
from sensai.grouping.methods import METHODS
from sensai.models.architecture_names import ARCHITECTURES
from sensai.policy.criteria import CRITERIA
from sensai.training.losses import LOSSES
from sensai.training.schedules import SCHEDULES
from sensai.training.stop_rules import STOP_RULES
from sensai.training.stopping import DEFAULT_STOP_RULES, unused_by


class Common(BaseModel):
    """Parameters that every stage takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: DatasetName = Field(
        "digits", description=f"{', '.join(DATASETS)}, path/to/file.py:factory or module:factory"
    )
    data_dir: FilePath = Field("", description="folder of the data; downloads go there (default: below work_dir)")
    arch: ArchName = Field(
        "small_cnn",
        description=f"{', '.join(ARCHITECTURES)}, torchvision:<name>, path/to/file.py:factory or module:factory",
    )
    arch_args: JsonObject = Field(
        "",
        description='JSON object; residual nets: "block" basic or bottleneck, "shortcut" projection or parameter_free; '
        'shufflenetv2: "width" 0.5, 1, 1.5 or 2; others: keyword arguments of the network',
    )
    checkpoint: FilePath = Field("", description="file of trained weights to start from")
    rename: Renames = Field("", description="old=new,...: parts of the checkpoint's keys and what they are called here")
    checkpoint_key: Text = Field(
        "", description="where the weights stand in the checkpoint, e.g. ema (default: state_dict, or the first there)"
    )
    drop: Patterns = Field(
        "", description="pattern,...: entries of the checkpoint that are left out, e.g. total_ops,*.total_ops"
    )
    mean: ChannelValues = Field(
        "", description="input normalisation per channel of values in [0, 1] (default: the data set's)"
    )
    std: PositiveChannelValues = Field("", description="likewise")
    image_size: OptionalSide = Field(None, description="side of the network's input (default: the architecture's)")
    val_fraction: InnerShare = Field(
        0.1, description="share of the training data that is validation, where the data have no val split"
    )
    split_seed: Seed = Field(0, description="seed of that split")
    base_seed: Seed = Field(0, description="seed of the base model")
    seed: Seed = Field(0, description="seed of group, prune and retrain")
    device: DeviceName = Field("auto", description="auto, cpu, cuda or cuda:<n>")
    force: bool = Field(False, description="run again although a finished run with the same fingerprint exists")
    work_dir: WorkDir = Field(".sensai", description="folder of working files: decoded arrays, checkpoints, locks")

    def ignored(self) -> set[str]:
        """Parameters that make no difference with the methods that are chosen."""
        return set() if self.checkpoint else {"rename", "checkpoint_key", "drop"}


class Baseline(Common):
    """The base model: trained here, or taken from a checkpoint."""

    base_epochs: EpochsOrNone = Field(30, description="epochs of training; 0 takes the checkpoint as it is")
    base_lr: LearningRate = Field(0.1, description="peak learning rate of the one-cycle schedule")
    base_batch_size: BatchSize = Field(64, description="images a step")
    base_weight_decay: Penalty = Field(5e-4, description="L2 penalty")
    base_augmentation: Augment = Field("auto", description="auto: crop, and mirroring where images are no symbols")

    def ignored(self) -> set[str]:
        untrained = {"base_lr", "base_batch_size", "base_weight_decay", "base_augmentation"}
        if self.base_epochs:
            return super().ignored()
        return super().ignored() | untrained | ({"base_seed"} if self.checkpoint else set())


class Activations(Baseline):
    """Per-class statistics of every removable channel."""

    zero_threshold: Level = Field(0.005, description="an activation up to this counts as zero")
    criterion: CriterionName = Field("apoz", description=f"what policy=ratio ranks by; {CRITERIA.help}")
    shards: Parts = Field(1, description="parts of the pass; one that was killed goes on after the last finished part")

    @property
    def needs_backward(self) -> bool:
        """Whether the criterion goes by what only a backward pass gives."""
        return "sensitivity" in CRITERIA[self.criterion].uses


class Group(Activations):
    """Which classes share a member."""

    method: GroupMethod = Field("singletons", description=METHODS.help)
    n_groups: OptionalGroups = Field(
        None, description="number of groups, for every method but singletons and file; 1 is the control"
    )
    similarity: Literal["coupling", "statistics", "confusion"] = Field(
        "coupling",
        description="of two classes, for spectral, most_similar and least_similar: channels that both plans remove, "
        "correlation of APoZ, or confusion by the base model on validation data",
    )
    groups_file: FilePath = Field("", description="for method=file: JSON list of lists of class names or indices")
    ratio: Ratio = Field(0.5, description="share of all removable channels that is removed, in [0, 1)")
    scope: Literal["inner", "all"] = Field("inner", description="channels inside blocks, or the residual stream too")

    @property
    def counted(self) -> bool:
        """Whether the method makes `n_groups` groups."""
        return self._uses("n_groups")

    @property
    def by_similarity(self) -> bool:
        """Whether the groups depend on how alike classes are."""
        return self._uses("similarity")

    @property
    def by_plans(self) -> bool:
        """Whether the groups depend on plans, and so on `ratio`."""
        return self._uses("costs") or (self.by_similarity and self.similarity == "coupling")

    @property
    def by_file(self) -> bool:
        """Whether the groups are those of `groups_file`."""
        return self._uses("groups_file")

    @property
    def sampled(self) -> bool:
        """Whether the groups depend on `seed`."""
        return self._uses("seed")

    def _uses(self, name: str) -> bool:
        return name in METHODS[self.method].uses

    def ignored(self) -> set[str]:
        uncounted = set() if self.counted else {"n_groups"}
        return super().ignored() | uncounted | (set() if self.by_similarity else {"similarity"})

    @model_validator(mode="after")
    def _method_has_what_it_needs(self) -> Self:
        if self.counted and self.n_groups is None:
            raise ValueError(f"n_groups='': method={self.method} needs the number of groups")
        if self.by_file and not self.groups_file:
            raise ValueError(f"groups_file='': method={self.method} needs the file of the groups")
        return self


class Prune(Group):
    """Which channels each member goes without."""

    policy: Literal["ratio", "threshold"] = Field("ratio", description="ratio of all channels, or APoZ thresholds")
    target_flops: OptionalShare = Field(
        None,
        description="share of the base model's FLOPs that each member may have, e.g. 0.055; replaces ratio, "
        "by which only groups are formed then",
    )
    target_of: Literal["member", "ensemble"] = Field(
        "member",
        description="for target_flops: member: each is as large as it may be; ensemble: channels of all members are ranked "
        "together, and the most dispensable go until the largest member meets it",
    )
    ranking: Literal["global", "layer"] = Field("global", description="rank all channels together or site by site")
    apoz_threshold: Share = Field(
        0.8,
        description="policy=threshold: remove a channel with a larger APoZ ...; where that would leave a site fewer than "
        "min_channels, it rises there in steps of 0.05",
    )
    mean_threshold: Level = Field(0.01, description="... and a smaller mean activation")
    min_channels: Channels = Field(
        1,
        description="channels that every site keeps; 0: one, or none where the network still answers without, as in blocks "
        "beside a residual connection",
    )
    round_to: Multiple = Field(1, description="kept widths are multiples of this")

    @property
    def by_ratio(self) -> bool:
        """Whether `ratio` says how much is removed."""
        return self.policy == "ratio" and self.target_flops is None

    def ignored(self) -> set[str]:
        ratio = set() if self.by_ratio or self.by_plans else {"ratio"}
        thresholds = {"apoz_threshold", "mean_threshold"}
        if self.target_flops is not None:
            return super().ignored() | thresholds | ratio | {"policy"}
        unused = thresholds if self.policy == "ratio" else {"ranking", "criterion"}
        return super().ignored() | ratio | unused | {"target_of"}

    @model_validator(mode="after")
    def _target_goes_with_a_ranking(self) -> Self:
        if self.target_flops is not None and self.policy == "threshold":
            raise ValueError(f"target_flops={self.target_flops:g}: goes with policy=ratio, whose ratio it replaces")
        return self


class Retrain(Prune):
    """How the members are trained after the cut."""

    epochs: EpochsOrNone = Field(20, description="most epochs of each member; 0 passes them on as they were cut")
    cut_steps: Steps = Field(1, description="the cut is made in so many steps, with training in between")
    cut_epochs: Epochs = Field(1, description="most epochs of each member after each step but the last")
    lr: LearningRate = Field(0.05, description="peak learning rate of the schedule")
    schedule: ScheduleName = Field("one_cycle", description=f"of the learning rate; {SCHEDULES.help}")
    batch_size: BatchSize = Field(64, description="images a step")
    weight_decay: Penalty = Field(5e-4, description="L2 penalty")
    loss: LossName = Field("bce", description=LOSSES.help)
    kd_weight: Share = Field(0.5, description="for losses that use it: share of the target that is the base model's")
    balance: Literal["weight", "sample"] = Field(
        "weight",
        description="how a class counts as much as all others together: weight of its images, or sample of the others",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: what a short measurement finds faster"
    )
    augmentation: Augment = Field("auto", description="auto: crop, and mirroring where images are no symbols")
    stop_rules: StopRules = Field(
        ",".join(DEFAULT_STOP_RULES), description=f"rules that stop a member; {STOP_RULES.help}"
    )
    patience: EpochsOrNone = Field(0, description="stop a member after so many epochs without gain; 0: never")
    min_gain: Share = Field(0.0, description="what counts as gain in the validation metric")
    target: OptionalShare = Field(None, description="stop a member once its validation metric has reached this")
    budget: Budgeted = Field(
        "",
        description="of all members together after each cut, e.g. 90epochs or 600s; spent where validation gains most a "
        "second; learning rates still follow a schedule of `epochs` each",
    )
    jobs: OptionalProcesses = Field(
        None, description="workers that train side by side (default: one a core, or one a GPU)"
    )
    threads: OptionalThreads = Field(None, description="threads of each worker (default: the cores dealt out)")
    backend: Literal["local", "ray"] = Field(
        "local",
        description="local: workers are processes of this machine; ray: tasks of a cluster that all sees work_dir",
    )
    ray_address: RayAddress = Field(
        "",
        description="host:port of a running Ray cluster, or auto (default: a Ray of this machine, for this run alone)",
    )

    @model_validator(mode="after")
    def _address_goes_with_ray(self) -> Self:
        if self.ray_address and self.backend != "ray":
            raise ValueError(f"ray_address={self.ray_address!r}: goes with backend=ray")
        return self

    def ignored(self) -> set[str]:
        if self.epochs == 0:
            return super().ignored() | set(Retrain.model_fields) - set(Prune.model_fields) - {"epochs"}
        untaught = {"kd_weight"} - LOSSES[self.loss].uses
        at_once = {"cut_epochs"} if self.cut_steps == 1 else set()
        weighted = {"balance"} if "joint" in LOSSES[self.loss].traits else set()
        unstopped = unused_by(parse_stop_rules(self.stop_rules), self.patience, self.target)
        return super().ignored() | untaught | at_once | weighted | unstopped


class Evaluate(Retrain):
    """The one reading of the test split."""

    combine: OptionalCombineMethod = Field(
        None,
        description="how the members' outputs become class probabilities, fitted on validation data: raw (not fitted), "
        "temperature, vector or logistic (default: the likeliest on validation images held out; without validation data raw)",
    )
    reject: OptionalInnerShare = Field(
        None,
        description="share of the validation images, the least sure, below whose largest probability the answer is "
        "none of them (default: never)",
    )
    runtime: RuntimeName = Field(
        "auto",
        description="what latencies are measured in: auto: the fastest of the device's but torch-compiled, which takes "
        "minutes to compile; torch; ONNX Runtime with all members in one graph, that in parallel branches, or a session for "
        "each member; on a GPU a stream for each member, or all of these captured as one graph",
    )
    int8: bool = Field(
        False, description="also measure the members in 8-bit integers: their latency, and their accuracy beside it"
    )
    latency_batch_size: ImagesAtOnce = Field(1, description="images at a time when latencies are measured")


class Register(Evaluate):
    """The ensemble as a version in the model registry."""

    model_name: ModelName = Field("sensai-ensemble", description="registered model that gets the version")
    image_dtype: Literal["uint8", "float32"] = Field(
        "uint8", description="of the images that the version takes: uint8 from 0 to 255, float32 from 0 to 1"
    )
    image_layout: Literal["NHWC", "NCHW"] = Field("NHWC", description="of these images: channels last or first")


class Main(Register):
    """The whole pipeline."""

    control: bool = Field(
        True, description="also prune and retrain one K-way network to the FLOPs of the largest member, the yardstick"
    )


class Report(Evaluate):
    """What the page is about, and what is set beside each other on it."""

    control_run: RunId = Field("", description="evaluate run of the control, shown beside the ensemble")
    compare_runs: RunIds = Field(
        "", description="ids of two or more runs, separated by commas: the page sets these beside each other instead"
    )


class FromRun(BaseModel):
    """For stages that have one before them."""

    from_run: RunId = Field(
        "", description="id of the run of the stage before to stand on; its parameters are inherited"
    )
