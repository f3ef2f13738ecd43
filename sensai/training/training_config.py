"""The configuration of a training: objective, optimizer, batches and budget."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

from sensai.data.batches import AnySplit, Augmentation
from sensai.data.transforms import AutoAugment, Mixing
from sensai.training.losses import LOSSES
from sensai.training.precision import Precision
from sensai.training.schedules import SCHEDULES
from sensai.training.stopping import DEFAULT_STOP_RULES
from sensai.training.weight_averaging import WeightAveraging

Balance = Literal["weight", "sample"]


class TrainingData(Protocol):
    """The images of a training, e.g. a `Dataset`."""

    @property
    def train(self) -> AnySplit:
        """Return what is trained on."""

    @property
    def val(self) -> AnySplit | None:
        """Return what epochs are judged on; None: nothing is."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Return the shape (C, H, W) of one image."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """The loss of the members.

    Attributes:
        loss: name in `LOSSES`.
        kd_weight: for losses that use a teacher: share of the target that is the teacher's, in [0, 1].
        kd_temperature: likewise: divides the logits of teacher and members (see `taught_cross_entropy`).
        logit_standardization: likewise: these logits are standardised before (see `softened`).
        label_smoothing: share of every label that is spread evenly over all K classes, in [0, 1).
        balance: a class counts as much as all others together, by the `weight` of its images or by a `sample` of the others.
            Joint losses always use weights.
        precision: of forward passes.
    """

    loss: str = "bce"
    kd_weight: float = 0.5
    kd_temperature: float = 1.0
    logit_standardization: bool = False
    label_smoothing: float = 0.0
    balance: Balance = "weight"
    precision: Precision = "fp32"

    @property
    def joint(self) -> bool:
        """Return whether all members learn together."""
        return bool(LOSSES[self.loss].traits["joint"])

    @property
    def uses_teacher(self) -> bool:
        """Return whether the base model takes part: it does not where the share of the target that is its own is 0."""
        uses = LOSSES[self.loss].uses
        return "teacher" in uses and not ("kd_weight" in uses and self.kd_weight == 0)

    @property
    def softens(self) -> bool:
        """Return whether the teacher's and the members' logits are changed before they are compared."""
        return self.kd_temperature != 1 or self.logit_standardization


@dataclass(frozen=True)
class OptimizerConfig:
    """The steps of a member and their end.

    Attributes:
        epochs: most passes over the training split.
        lr: peak learning rate.
        weight_decay: L2 penalty.
        weight_averaging: the weights that are judged and kept: those of the last step (`none`), or their average (`ema`).
        ema_decay: of the average, in (0, 1).
        metric: the validation metric that picks the best epoch (ties: the lower loss) and that stop rules watch.
        schedule: name in `SCHEDULES`.
        decay_epochs: epochs of the decay, for schedules that have one.
        stop_rules: names in `STOP_RULES`.
        patience: of stop rules; 0 turns off those that use it.
        min_gain: of stop rules.
        target: of stop rules; None turns off those that use it.
    """

    epochs: int
    lr: float
    weight_decay: float
    metric: str
    weight_averaging: WeightAveraging = "none"
    ema_decay: float = 0.99
    schedule: str = "one_cycle"
    decay_epochs: int = 1
    stop_rules: tuple[str, ...] = DEFAULT_STOP_RULES
    patience: int = 0
    min_gain: float = 0.0
    target: float | None = None

    @property
    def epochs_after_stop(self) -> int:
        """Return the epochs that are trained after a stop: those of the decay, if the schedule has one."""
        has_decay = "decay_steps" in SCHEDULES[self.schedule].uses
        return min(self.decay_epochs, self.epochs) if has_decay else 0


@dataclass(frozen=True)
class BatchConfig:
    """The training batches that members share.

    Attributes:
        batch_size: images a step.
        augmentation: of the training images.
        seed: of order, augmentation and mixing.
        auto_augment: policy of a further operation on every image.
        mixing: of the images of a batch; None: they stay as they are.
    """

    batch_size: int
    augmentation: Augmentation
    seed: int
    auto_augment: AutoAugment = "none"
    mixing: Mixing | None = None


@dataclass(frozen=True)
class Budget:
    """The limit of all members together.

    Attributes:
        epochs: in sum over the members; None: no limit.
        seconds: of the clock; None: no limit. An epoch is started if one like those before it fits in.
    """

    epochs: int | None = None
    seconds: float | None = None

    @property
    def limited(self) -> bool:
        """Return whether there is a limit."""
        return self.epochs is not None or self.seconds is not None


@dataclass(frozen=True)
class TrainingConfig:
    """The sections of a training's configuration.

    Attributes:
        optimizer: of each member.
        batches: that members share.
        objective: loss and precision.
        budget: of all members together.
    """

    optimizer: OptimizerConfig
    batches: BatchConfig
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    budget: Budget = field(default_factory=Budget)
