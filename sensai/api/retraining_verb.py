"""retrain: Train the members of an ensemble after the cut."""

from dataclasses import dataclass
from typing import Any, cast

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from sensai.api.live_ensemble import Ensemble
from sensai.api.parameters import checked
from sensai.api.user_images import BATCH, UserImages, split_of
from sensai.config import RetrainConfig
from sensai.data.batches import AnySplit, Augmentation, batches
from sensai.data.loaders import LoaderSplit
from sensai.ensemble.building import initialise_anew
from sensai.errors import InputError
from sensai.evaluation import run_networks
from sensai.evaluation.combinations import fit_combinations
from sensai.files import temporary_folder
from sensai.grouping.partitions import class_label
from sensai.models.live_networks import plain_copy
from sensai.pipeline.configured import training_config
from sensai.pipeline.devices import device_of
from sensai.pipeline.open_workers import open_workers
from sensai.training.checkpoints import TrainingHistory, epoch_text
from sensai.training.losses import LOSSES
from sensai.training.members import retrain_members
from sensai.training.precision import Precision

# These are made from pixels, which a loader has turned into floats.
_ON_PIXELS = ("augmentation", "auto_augment")
# Those of the entry point that mean something in one call on images in memory.
_MORE = frozenset(
    {
        "initial_weights",
        "schedule",
        "decay_epochs",
        "weight_decay",
        "weight_averaging",
        "ema_decay",
        "kd_weight",
        "kd_temperature",
        "logit_standardization",
        "label_smoothing",
        "balance",
        "precision",
        "augmentation",
        "auto_augment",
        "mix",
        "mix_alpha",
        "stop_rules",
        "patience",
        "min_gain",
        "target",
        "budget",
        "threads",
        "backend",
        "ray_address",
    }
)


@dataclass(frozen=True)
class _Images:
    """The images of a training."""

    train: AnySplit
    val: AnySplit | None
    image_shape: tuple[int, int, int]


def retrain(
    ensemble: Ensemble,
    train: UserImages,
    val: UserImages = None,
    *,
    epochs: int = 20,
    loss: str = "bce",
    teacher: nn.Module | None = None,
    lr: float = 0.05,
    batch_size: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    device: str = "auto",
    progress: bool = True,
    **more: Any,
) -> Ensemble:
    """Train all members in place; each ends with its best epoch. Then fit how their outputs are combined.

    The same seed gives the same members, on the same machine with as many threads.

    Args:
        ensemble: of `prune`.
        train: the training images, in a form that `score` takes. A loader is iterated anew for each epoch, with its own order
            and augmentation. Pairs and data sets are shuffled; pairs of uint8 can also be augmented (`augmentation`).
        val: validation images, by which the best epochs are picked and the combination is fitted; None: the last epochs are
            kept, and raw scores combined.
        epochs: most epochs of each member.
        loss: `bce`, `kd`, `joint` or `joint_kd`, or one that another package adds.
        teacher: the base model, for losses that use one.
        lr: peak learning rate.
        batch_size: of data that are no batches yet; None: 64.
        seed: of everything random.
        jobs: number of processes that train; 1: this one, on as many threads as torch has here (`torch.set_num_threads`).
        device: auto, cpu, cuda or cuda:<n>.
        progress: show a progress bar.
        more: further parameters of the entry point `retrain`, e.g. `patience`, `weight_averaging` or `mix`. Here `precision` is
            fp32 by default, since a measured choice may differ from run to run, and `augmentation` is none.

    Returns:
        The ensemble.

    Raises:
        InputError: a parameter is not allowed, the teacher is missing, or a member failed twice.
    """
    config = _checked(more, epochs=epochs, loss=loss, lr=lr, batch_size=batch_size, seed=seed, jobs=jobs, device=device)
    images = _images(ensemble, train, val, config, batch_size, more)
    if not config.epochs:
        histories = [TrainingHistory(done=True)] * len(ensemble.members)
    else:
        histories = _trained(ensemble, images, teacher, config, progress)
    target = device_of(config)
    ensemble.to(target).eval()
    ensemble.history = _history(ensemble, histories)
    if images.val is not None:
        networks = [member.network for member in ensemble.members]
        outputs = run_networks(networks, batches(images.val, BATCH, ensemble.normalization, target))
        ensemble.calibration = fit_combinations(ensemble.groups, outputs if len(outputs.labels) > 1 else None).chosen
    return ensemble


def _checked(more: dict[str, Any], **values: object) -> RetrainConfig:
    if unknown := [name for name in more if name not in _MORE]:
        known = ", ".join(sorted(_MORE))
        raise InputError(f"{unknown[0]!r} is no parameter of retrain; further ones are {known}")
    # A user limits torch's threads in this process; workers share the cores by themselves.
    threads = torch.get_num_threads() if values["jobs"] == 1 and more.get("backend", "local") == "local" else None
    defaults = {"precision": "fp32", "augmentation": "none", "threads": threads}
    config = checked(RetrainConfig, {**defaults, **values, **more})
    if config.precision == "auto":
        raise InputError("precision='auto': must be fp32 or bf16; only the entry point measures")
    return config


def _images(
    ensemble: Ensemble,
    train: UserImages,
    val: UserImages,
    config: RetrainConfig,
    batch_size: int | None,
    more: dict[str, Any],
) -> _Images:
    classes, shape = len(ensemble.class_names), ensemble.spec.input_shape
    training = split_of(train, "train", classes, shape, batch_size=config.batch_size, shuffle=True)
    if isinstance(training, LoaderSplit):
        if batch_size is not None and training.loader is train:
            raise InputError(f"batch_size={batch_size}: the loader `train` makes the batches")
        if wrong := [name for name in _ON_PIXELS if more.get(name, "none") != "none"]:
            raise InputError(
                f"{wrong[0]}={more[wrong[0]]!r}: is made from uint8 pairs (images, labels); a loader augments by its transforms"
            )
    validation = None if val is None else split_of(val, "val", classes, shape)
    return _Images(training, validation, shape)


def _trained(
    ensemble: Ensemble, images: _Images, teacher: nn.Module | None, config: RetrainConfig, progress: bool
) -> list[TrainingHistory]:
    augmentation: Augmentation = "crop_flip" if config.augmentation == "auto" else config.augmentation
    precision = cast(Precision, config.precision)
    training = training_config(config, augmentation, len(ensemble.class_names), config.epochs, precision)
    if training.objective.uses_teacher and teacher is None:
        raise InputError(f"teacher=None: loss={config.loss!r} ({LOSSES[config.loss].help}) needs the base model")
    if config.initial_weights == "random":
        initialise_anew(ensemble, config.seed)
    total = config.epochs * len(ensemble.members)
    with (
        open_workers([each.flops for each in ensemble.sizes], config) as workers,
        temporary_folder() as folder,
        tqdm(total=total, desc="retrain", unit="epoch", disable=not progress, leave=False) as bar,
    ):

        def on_epoch(_member: int, _epoch: int, metrics: dict[str, float]) -> None:
            bar.set_postfix_str(epoch_text(metrics, training.optimizer.metric), refresh=False)
            bar.update()

        return retrain_members(
            ensemble,
            images,
            training,
            workers,
            teacher=_as_teacher(teacher, ensemble) if training.objective.uses_teacher else None,
            folder=folder,
            on_epoch=on_epoch,
        )


def _as_teacher(teacher: nn.Module | None, ensemble: Ensemble) -> nn.Module:
    """Return a copy of the teacher.

    Raises:
        InputError: it is of another architecture than the base model, of which workers build it.
    """
    network = plain_copy(teacher) if teacher is not None else nn.Identity()
    template = ensemble.spec.network
    if template is not None:
        shapes, wanted = (
            {name: values.shape for name, values in each.state_dict().items()} for each in (network, template)
        )
        if shapes != wanted:
            raise InputError("teacher: must be of the architecture that the ensemble was cut from")
    return network


def _history(ensemble: Ensemble, histories: list[TrainingHistory]) -> pd.DataFrame:
    rows = [
        {
            "member": number,
            "classes": class_label(member.classes, ensemble.class_names),
            "epoch": epoch,
            **dict(sorted(metrics.items())),
        }
        for number, (member, history) in enumerate(zip(ensemble.members, histories, strict=True))
        for epoch, metrics in enumerate(history.epochs)
    ]
    return pd.DataFrame(rows)
