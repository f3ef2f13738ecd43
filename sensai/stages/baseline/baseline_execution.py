"""Train the base model, or take that of a checkpoint, and log it."""

import logging
from functools import partial
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from sensai.analysis.figures import static
from sensai.config import BaselineConfig
from sensai.data.batches import batches, on_device_dataset, steps_per_epoch, training_batches
from sensai.data.dataset import Dataset
from sensai.errors import InputError
from sensai.evaluation import accuracies, run_networks, size, softmax
from sensai.files import temporary_folder
from sensai.models.architecture_names import is_own, source_digest
from sensai.models.behaviour import check_modes
from sensai.models.factory import NetworkSpec, auxiliary_heads, build, check_output
from sensai.models.foreign_checkpoints import adopt, read_checkpoint
from sensai.models.layout import laid_out, with_memory_format
from sensai.models.storage import save_network
from sensai.models.wrappers import unwrap
from sensai.pipeline.base_model import MODEL
from sensai.pipeline.context import Context
from sensai.tracking.artifact_names import CURVE_FIGURE
from sensai.training.captured import captured
from sensai.training.checkpoints import Checkpoints, TrainingHistory, epoch_text
from sensai.training.joint_trainer import JointTrainer
from sensai.training.member_trainer import MemberTrainer
from sensai.training.objectives import Objective
from sensai.training.training_config import OptimizerConfig
from sensai.training.training_loop import fit

_log = logging.getLogger(__name__)


def execute(config: BaselineConfig, context: Context) -> None:
    """Make the base model and log it."""
    model, spec = _initial_model(config, context)
    if config.base_epochs:
        history = _train(model, spec, config, context)
        context.run.log_metrics({"epochs_run": len(history.epochs), "seconds": history.seconds})
        context.run.log_figure(static.learning_curve(history.epochs), CURVE_FIGURE)
    sizes = size(unwrap(model), spec.input_shape)
    context.run.log_metrics({"params": sizes.params, "flops": sizes.flops})
    if (val := context.data.val) is not None:
        images = batches(val, context.evaluation_batch, context.normalization(spec), context.device)
        outputs = run_networks([model], images)
        context.run.log_metrics({"val_accuracy": accuracies(softmax(outputs.members[0]), outputs.labels)["accuracy"]})
    with temporary_folder() as folder:
        save_network(model, spec, folder)
        context.run.log_folder(folder, MODEL)


def _initial_model(config: BaselineConfig, context: Context) -> tuple[nn.Module, NetworkSpec]:
    spec = _network_spec(config, context.data)
    torch.manual_seed(config.base_seed)
    model = build(spec)
    check_output(model, spec)
    if is_own(config.arch):
        check_modes(model, spec)
    if config.checkpoint:
        path = Path(config.checkpoint)
        tensors = read_checkpoint(
            path,
            config.rename,
            checkpoint_key=config.checkpoint_key,
            drop=config.drop,
        )
        adopt(model, tensors, path, auxiliary_heads(config.arch))
    elif config.base_epochs == 0:
        _log.warning("base_epochs=0 without a checkpoint: the base model is an untrained network")
    model = model.to(context.device)
    return model, with_memory_format(model, spec)


def _network_spec(config: BaselineConfig, data: Dataset) -> NetworkSpec:
    """Return the architecture that the parameters name, for this data set."""
    channels, height, width = data.image_shape
    arguments = config.arch_args.values
    source = source_digest(config.arch)
    return NetworkSpec(config.arch, len(data.class_names), channels, (height, width), arguments, source)


def _train(model: nn.Module, spec: NetworkSpec, config: BaselineConfig, context: Context) -> TrainingHistory:
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(
            f"base_epochs={config.base_epochs}: no parameter of the network is trained (requires_grad); 0 takes it as it is"
        )
    data, device, normalization = context.data, context.device, context.normalization(spec)
    optimizer = OptimizerConfig(
        epochs=config.base_epochs,
        lr=config.base_lr,
        weight_decay=config.base_weight_decay,
        metric="accuracy",
    )
    with tqdm(total=config.base_epochs, desc="baseline", unit="epoch") as bar:

        def on_epoch(_position: int, epoch: int, metrics: dict[str, float]) -> None:
            context.run.log_metrics({f"curve/{name}": value for name, value in metrics.items()}, epoch)
            bar.set_postfix_str(epoch_text(metrics, optimizer.metric), refresh=False)
            bar.update()

        steps = steps_per_epoch(data.train, config.base_batch_size)
        member = MemberTrainer(
            laid_out(model, spec.memory_format), optimizer, steps, Checkpoints(context.checkpoints / "baseline")
        )
        training = partial(
            training_batches,
            on_device_dataset(data.train, device),
            config.base_batch_size,
            normalization,
            device,
            augmentation=context.augmentation(config.base_augmentation),
            seed=config.base_seed,
        )
        validation = partial(batches, data.val, context.evaluation_batch, normalization, device) if data.val else None
        trainer = JointTrainer(
            captured(model, device), Objective.multiclass(len(data.class_names)), [member], seed=config.base_seed
        )
        if failures := fit([trainer], training, validation, on_epoch=on_epoch):
            raise InputError(f"base_lr={config.base_lr}: {failures[0]}")
        return member.history
