"""baseline: the trained K-way classifier. Logs val_accuracy, params, flops, the learning curve and the model."""

import logging
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from sensai.analysis.figures import static
from sensai.config import BaselineConfig, StageConfig
from sensai.config.parameter_types import parse_patterns, parse_renames
from sensai.data.batches import batches, on_device_dataset, steps_per_epoch, training_batches
from sensai.errors import InputError
from sensai.evaluation import accuracies, run_networks, size, softmax
from sensai.files import temporary_folder
from sensai.models.behaviour import check_modes
from sensai.models.factory import NetworkSpec, auxiliary_heads, build, check_output, is_own, source_digest
from sensai.models.foreign_checkpoints import adopt, read_checkpoint
from sensai.models.layout import laid_out, with_memory_format
from sensai.models.storage import load_network, save_network
from sensai.models.wrappers import unwrap
from sensai.pipeline.context import (
    augmentation_of,
    dataset_of,
    device_of,
    evaluation_batch,
    file_digest,
    network_spec_of,
    normalization_of,
)
from sensai.pipeline.stage import Context, Stage
from sensai.pruning import provable
from sensai.sites import SiteMap, find_sites
from sensai.tracking import Store
from sensai.tracking.artifact_names import CURVE_FIGURE, MODEL
from sensai.training.captured import captured
from sensai.training.checkpoints import Checkpoints, Progress
from sensai.training.fitting import fit
from sensai.training.objectives import Objective
from sensai.training.teams import Team
from sensai.training.trainee import Recipe, Trainee

_log = logging.getLogger(__name__)
_PROOF_IMAGES = 8
# Layers whose reasons an error message tells.
_REASONS = 3


def _execute(config: BaselineConfig, context: Context) -> None:
    model, spec = _initial_model(config)
    if config.base_epochs:
        progress = _train(model, spec, config, context)
        context.run.log_metrics({"epochs_run": len(progress.history), "seconds": progress.seconds})
        context.run.log_figure(static.learning_curve(progress.history), CURVE_FIGURE)
    sizes = size(unwrap(model), spec.input_shape)
    context.run.log_metrics({"params": sizes.params, "flops": sizes.flops})
    if (val := dataset_of(config).val) is not None:
        images = batches(val, evaluation_batch(config), normalization_of(config, spec), device_of(config))
        outputs = run_networks([model], images)
        context.run.log_metrics({"val_accuracy": accuracies(softmax(outputs.members[0]), outputs.labels)["accuracy"]})
    with temporary_folder() as folder:
        save_network(model, spec, folder)
        context.run.log_folder(folder, MODEL)


def _initial_model(config: BaselineConfig) -> tuple[nn.Module, NetworkSpec]:
    spec = network_spec_of(config)
    torch.manual_seed(config.base_seed)
    model = build(spec)
    check_output(model, spec)
    if is_own(config.arch):
        check_modes(model, spec)
    if config.checkpoint:
        path = Path(config.checkpoint)
        tensors = read_checkpoint(
            path,
            parse_renames(config.rename),
            checkpoint_key=config.checkpoint_key,
            drop=parse_patterns(config.drop),
        )
        adopt(model, tensors, path, auxiliary_heads(config.arch))
    elif config.base_epochs == 0:
        _log.warning("base_epochs=0 without a checkpoint: the base model is an untrained network")
    model = model.to(device_of(config))
    return model, with_memory_format(model, spec)


def _train(model: nn.Module, spec: NetworkSpec, config: BaselineConfig, context: Context) -> Progress:
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(
            f"base_epochs={config.base_epochs}: no parameter of the network is trained (requires_grad); 0 takes it as it is"
        )
    data, device, normalization = dataset_of(config), device_of(config), normalization_of(config, spec)
    recipe = Recipe(
        epochs=config.base_epochs,
        lr=config.base_lr,
        weight_decay=config.base_weight_decay,
        patience=0,
        min_gain=0.0,
        metric="accuracy",
    )
    with tqdm(total=config.base_epochs, desc="baseline", unit="epoch") as bar:

        def on_epoch(_position: int, epoch: int, metrics: dict[str, float]) -> None:
            context.run.log_metrics({f"curve/{name}": value for name, value in metrics.items()}, epoch)
            bar.update()

        steps = steps_per_epoch(data.train, config.base_batch_size)
        trainee = Trainee(
            laid_out(model, spec.memory_format), recipe, steps, Checkpoints(context.checkpoints / "baseline")
        )
        training = partial(
            training_batches,
            on_device_dataset(data.train, device),
            config.base_batch_size,
            normalization,
            device,
            augmentation=augmentation_of(config.base_augmentation, config),
            seed=config.base_seed,
        )
        validation = partial(batches, data.val, evaluation_batch(config), normalization, device) if data.val else None
        team = Team(
            captured(model, device), Objective.multiclass(len(data.class_names)), [trainee], seed=config.base_seed
        )
        if failures := fit([team], training, validation, on_epoch=on_epoch):
            raise InputError(f"base_lr={config.base_lr}: {failures[0]}")
        return trainee.progress


@lru_cache(maxsize=2)
def load(store: Store, run_id: str) -> tuple[nn.Module, NetworkSpec]:
    """The base model of a run, in eval mode; shared within the process, so not to be changed."""
    with store.downloaded(run_id, MODEL) as folder:
        return load_network(folder)


def base_model(context: Context, config: StageConfig) -> tuple[nn.Module, NetworkSpec]:
    """The base model that a stage stands on, on the device."""
    model, spec = load(context.store, context.upstream["baseline"])
    return model.to(device_of(config)), spec


def site_map(context: Context, config: StageConfig) -> SiteMap:
    """The removable channels of the base model, those included that only `scope=all` touches.

    Raises:
        InputError: it has none.
    """
    sites = _site_map(context.store, context.upstream["baseline"], device_of(config))
    check_removable(sites, config)
    return sites


def check_removable(sites: SiteMap, config: StageConfig) -> None:
    """Refuse a network that members cannot be made of.

    Raises:
        InputError: there is no site; says why layers are kept whole.
    """
    if not sites.sites:
        reasons = "; ".join(f"{layer}: {reason}" for layer, reason in islice(sites.kept_whole.items(), _REASONS))
        raise InputError(
            f"arch={config.arch!r}: has no channels that can be removed ({reasons or 'no layer but the last has any'})"
        )


@lru_cache(maxsize=2)
def _site_map(store: Store, run_id: str, device: torch.device) -> SiteMap:
    model, spec = load(store, run_id)
    # Whether a site can be cut is the network's affair, so any input shows it.
    images = torch.randn(_PROOF_IMAGES, *spec.input_shape, generator=torch.Generator().manual_seed(0))
    images = images.to(device, memory_format=spec.memory_format)
    return provable(model.to(device), find_sites(model, images), images)


def _inputs(config: BaselineConfig) -> dict[str, str]:
    """The files that the base model is made of, by content."""
    own = source_digest(config.arch)
    return {"checkpoint": file_digest(config.checkpoint, "checkpoint")} | ({"arch": own} if own else {})


stage = Stage(
    version=5,
    config=BaselineConfig,
    previous=None,
    execute=_execute,
    inputs=_inputs,
)
run = stage.run
