"""From the parameters of entry points to the arguments of the library, for the stages and for the Python interface."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from sensai.activations import Statistics
from sensai.config import Group, Prune, Retrain
from sensai.data.batches import Augmentation
from sensai.data.transforms import Mixing
from sensai.grouping.costs import MemberCosts
from sensai.grouping.grouping_inputs import GroupingInputs
from sensai.grouping.similarities import class_similarity
from sensai.policy.member_plans import CutConfig
from sensai.training.precision import Precision
from sensai.training.training_config import BatchConfig, Budget, ObjectiveConfig, OptimizerConfig, TrainingConfig


def grouping_inputs(
    config: Group,
    class_names: tuple[str, ...],
    statistics: Statistics,
    costs: MemberCosts,
    coupled: Callable[[], np.ndarray],
    confused: Callable[[], np.ndarray],
) -> GroupingInputs:
    """Return the inputs of grouping methods.

    Args:
        config: the parameters.
        class_names: the K names.
        statistics: of every site within the scope.
        costs: of members at `ratio`.
        coupled: returns how many channels the plans of two classes both remove, int64 (K, K). Both are called only
            where they are used.
        confused: likewise, measures how often the base model confuses two classes, float64 (K, K).
    """
    return GroupingInputs(
        class_names,
        statistics,
        costs,
        partial(_similarity, config, statistics, coupled, confused),
        confused,
        n_groups=config.n_groups or 1,
        overlap=config.overlap if config.overlaps else 1,
        overlap_design=config.overlap_design,
        seed=config.seed,
        groups_file=Path(config.groups_file),
    )


def _similarity(
    config: Group, statistics: Statistics, coupled: Callable[[], np.ndarray], confused: Callable[[], np.ndarray]
) -> np.ndarray:
    """Return the similarity of each two classes: float64 (K, K)."""
    if config.similarity == "statistics":
        return class_similarity(statistics)
    if config.similarity == "confusion":
        return confused()
    return coupled().astype(np.float64)


def cut_config(config: Prune) -> CutConfig:
    """Return the configuration of the cut."""
    ignored = config.ignored()
    return CutConfig(
        policy=config.policy,
        ratio=config.ratio,
        target_flops=config.target_flops,
        target_of=config.target_of,
        ranking="global" if "ranking" in ignored else config.ranking,
        scope=config.scope,
        plan_classes=config.plan_classes,
        criterion="" if "criterion" in ignored else config.criterion,
        replica_plans=None if "replica_plans" in ignored else config.replica_plans,
        apoz_threshold=config.apoz_threshold,
        mean_threshold=config.mean_threshold,
        min_channels=config.min_channels,
        round_to=config.round_to,
        seed=config.seed,
    )


def training_config(
    config: Retrain, augmentation: Augmentation, num_classes: int, epochs: int, precision: Precision
) -> TrainingConfig:
    """Return the configuration of the training after one cut.

    Args:
        config: the parameters.
        augmentation: of the training images.
        num_classes: K.
        epochs: most epochs of each member.
        precision: of forward passes.
    """
    objective = ObjectiveConfig(
        config.loss,
        kd_weight=config.kd_weight,
        kd_temperature=config.kd_temperature,
        logit_standardization=config.logit_standardization,
        label_smoothing=config.label_smoothing,
        balance=config.balance,
        precision=precision,
    )
    optimizer = OptimizerConfig(
        epochs=epochs,
        lr=config.lr,
        weight_decay=config.weight_decay,
        weight_averaging=config.weight_averaging,
        ema_decay=config.ema_decay,
        metric="accuracy" if objective.joint else "balanced_accuracy",
        schedule=config.schedule,
        decay_epochs=config.decay_epochs,
        stop_rules=config.stop_rules,
        patience=config.patience,
        min_gain=config.min_gain,
        target=config.target,
    )
    mixing = None if config.mix == "none" else Mixing(config.mix, config.mix_alpha, num_classes)
    batch = BatchConfig(config.batch_size, augmentation, config.seed, config.auto_augment, mixing)
    return TrainingConfig(optimizer, batch, objective, Budget(*config.budget) if config.budget else Budget())
