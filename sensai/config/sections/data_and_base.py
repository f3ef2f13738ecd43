"""The parameters of data, network and base model."""

from typing import Annotated

from pydantic import Field

from sensai.config.bounds import (
    BatchSize,
    EpochsOrNone,
    FilePath,
    InnerShare,
    LearningRate,
    OptionalSide,
    Penalty,
    RunId,
    Seed,
    Text,
    WorkDir,
)
from sensai.config.conditions import Above, Given, Is, Uses
from sensai.config.entry_point import EntryPoint
from sensai.config.parameter_types import (
    ArchName,
    Augment,
    ChannelValues,
    DatasetName,
    DeviceName,
    JsonObject,
    NetworkArguments,
    Patterns,
    PositiveChannelValues,
    Renames,
)
from sensai.config.usage import Usage
from sensai.grouping.methods import METHODS
from sensai.policy.criteria import CRITERIA

ADOPTED = Given("checkpoint")
BASE_TRAINED = Above("base_epochs", 0)
RETRAINED = Above("epochs", 0)
REPLICATED = Is("method", "replicas")
RANDOM_REPLICAS = REPLICATED & ~Is("replica_plans", "same")
# These plans rank channels; thresholds do not.
RANKED = Is("policy", "ratio") | Given("target_flops")


class Running(EntryPoint):
    """The place where a stage runs."""

    device: Annotated[DeviceName, Usage(operational=True, everyday=True)] = Field(
        "auto", description="auto, cpu, cuda or cuda:<n>"
    )
    force: Annotated[bool, Usage(operational=True)] = Field(
        False, description="run again even if a finished run has the same fingerprint"
    )
    work_dir: Annotated[WorkDir, Usage(operational=True)] = Field(
        ".sensai", description="folder of working files: decoded arrays, checkpoints, locks"
    )


class Common(Running):
    """Data and network."""

    owner = "baseline"

    dataset: Annotated[DatasetName, Usage(code=True, everyday=True)] = Field(
        "digits", description="data set: a name, path/to/file.py:factory or module:factory"
    )
    data_dir: Annotated[FilePath, Usage(by_content=True, everyday=True)] = Field(
        "", description="folder of the data; downloads go there (default: below work_dir)"
    )
    arch: Annotated[ArchName, Usage(code=True, everyday=True)] = Field(
        "small_cnn",
        description="network: a name, torchvision:<name>, timm:<name>, path/to/file.py:factory or module:factory",
    )
    arch_args: NetworkArguments = Field(
        JsonObject("", {}),
        description='arguments of the network, a JSON object; residual nets: "block" basic or bottleneck, "shortcut" '
        'projection or parameter_free; shufflenetv2: "width" 0.5, 1, 1.5 or 2',
    )
    checkpoint: Annotated[FilePath, Usage(by_content=True, everyday=True)] = Field(
        "", description="file of trained weights to start from"
    )
    rename: Annotated[Renames, Usage(when=ADOPTED)] = Field(
        (), description="old=new,...: renames parts of the checkpoint's keys"
    )
    checkpoint_key: Annotated[Text, Usage(when=ADOPTED)] = Field(
        "",
        description="key of the weights in the checkpoint, e.g. ema (default: state_dict, or the first that is found)",
    )
    drop: Annotated[Patterns, Usage(when=ADOPTED)] = Field(
        (), description="pattern,...: entries of the checkpoint to leave out, e.g. total_ops,*.total_ops"
    )
    mean: ChannelValues = Field(
        (), description="mean of each input channel, for values in [0, 1] (default: the data set's)"
    )
    std: PositiveChannelValues = Field(
        (), description="standard deviation of each input channel, for values in [0, 1] (default: the data set's)"
    )
    image_size: OptionalSide = Field(None, description="side of the network's input (default: the architecture's)")
    val_fraction: InnerShare = Field(
        0.1, description="share of the training data held out for validation, if the data have no val split"
    )
    split_seed: Seed = Field(0, description="seed of the validation split")
    base_seed: Annotated[Seed, Usage(when=BASE_TRAINED | ~ADOPTED)] = Field(0, description="seed of the base model")
    seed: Annotated[
        Seed,
        Usage(
            enters={
                "group": Uses("method", METHODS, "seed"),
                "prune": (Uses("criterion", CRITERIA, "seed") | RANDOM_REPLICAS) & RANKED,
                "retrain": RETRAINED,
            },
            search=False,
            everyday=True,
        ),
    ] = Field(0, description="seed of group, prune and retrain")


class Baseline(Common):
    """The base model: trained, or taken from a checkpoint."""

    owner = "baseline"

    base_epochs: Annotated[EpochsOrNone, Usage(everyday=True)] = Field(
        30, description="epochs of training; 0: use the checkpoint as it is"
    )
    base_lr: Annotated[LearningRate, Usage(when=BASE_TRAINED)] = Field(
        0.1, description="peak learning rate of the one-cycle schedule"
    )
    base_batch_size: Annotated[BatchSize, Usage(when=BASE_TRAINED)] = Field(64, description="images per step")
    base_weight_decay: Annotated[Penalty, Usage(when=BASE_TRAINED)] = Field(5e-4, description="L2 penalty")
    base_augmentation: Annotated[Augment, Usage(when=BASE_TRAINED)] = Field(
        "auto", description="auto: crop, and mirror unless images are symbols"
    )


class FromRun(EntryPoint):
    """The run that a stage stands on."""

    from_run: Annotated[RunId, Usage(operational=True)] = Field(
        "", description="id of a run of the stage before to start from; its parameters are inherited"
    )
