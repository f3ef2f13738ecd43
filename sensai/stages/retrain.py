"""retrain: every member trained on its own outcomes. Logs val_accuracy, epochs_saved, images_per_s, seconds and the members;
one child run a member with its validation metrics and curves.
"""

import json
import tempfile
from functools import partial
from pathlib import Path

from tqdm import tqdm

from analysis import plots, tags
from sensai.data.batches import batches
from sensai.ensemble import Ensemble, load_ensemble, save_ensemble
from sensai.evaluation import size
from sensai.retraining.fitting import Progress, Recipe
from sensai.retraining.members import retrain_member
from sensai.retraining.objectives import Objective, judge
from sensai.stages import prune
from sensai.stages.configs import Retrain, RetrainConfig, StageConfig
from sensai.stages.inputs import augmentation_of, dataset_of, device_of, evaluation_batch
from sensai.stages.stage import Context, Stage
from sensai.tracking import Run, Store

_MEMBERS = "members"
_UNTRAINED = Progress(history=[], done=True, stopped_by="epochs=0")


def _execute(config: RetrainConfig, context: Context) -> None:
    plans = prune.load(context.store, context.upstream["prune"])
    ensemble = prune.build(context, config, plans)
    numbers = tqdm(range(len(ensemble.members)), desc="retrain", unit="member")
    results = [_retrain(ensemble, number, config, context) for number in numbers]
    seconds = sum(result.seconds for result in results)
    epochs_run = sum(len(result.history) for result in results)
    metrics = {"epochs_saved": config.epochs * len(results) - epochs_run, "seconds": seconds}
    if epochs_run:
        metrics["images_per_s"] = epochs_run * len(dataset_of(config).train) / seconds
    if (accuracy := prune.validation_accuracy(ensemble, config)) is not None:
        metrics["val_accuracy"] = accuracy
    context.run.log_metrics(metrics)
    with tempfile.TemporaryDirectory() as folder:
        save_ensemble(ensemble, Path(folder))
        context.run.log_folder(Path(folder), _MEMBERS)


def _retrain(ensemble: Ensemble, number: int, config: RetrainConfig, context: Context) -> Progress:
    run = open_member_run(ensemble, number, config, context, split="val")
    with run.closing():
        result = _fit(ensemble, number, config, context, run) if config.epochs else _UNTRAINED
        _log_member(ensemble, number, config, result, run)
    return result


def _fit(ensemble: Ensemble, number: int, config: RetrainConfig, context: Context, run: Run) -> Progress:
    recipe = Recipe(
        epochs=config.epochs,
        lr=config.lr,
        weight_decay=config.weight_decay,
        patience=config.patience,
        min_gain=config.min_gain,
        metric="balanced_accuracy",
    )
    return retrain_member(
        ensemble,
        number,
        dataset_of(config),
        recipe,
        batch_size=config.batch_size,
        augmentation=augmentation_of(config.augmentation, config),
        seed=config.seed,
        device=device_of(config),
        checkpoint=context.checkpoints / f"member_{number:03d}.safetensors",
        on_epoch=partial(_log_epoch, run),
    )


def _log_epoch(run: Run, epoch: int, metrics: dict[str, float]) -> None:
    run.log_epoch({f"curve/{name}": value for name, value in metrics.items()}, epoch)


def _log_member(ensemble: Ensemble, number: int, config: RetrainConfig, result: Progress, run: Run) -> None:
    sizes = size(ensemble.members[number].network, ensemble.spec.input_shape)
    metrics = {
        "params": sizes.params,
        "flops": sizes.flops,
        "epochs_run": len(result.history),
        "seconds": result.seconds,
    }
    run.log_metrics(metrics | named_for_member(_validation_metrics(ensemble, number, config, result)))
    run.set_tags({tags.STOPPED_BY: result.stopped_by})
    if result.history:
        run.log_figure(plots.learning_curve(result.history), "learning_curve.png")


def _validation_metrics(ensemble: Ensemble, number: int, config: RetrainConfig, result: Progress) -> dict[str, float]:
    """Those of the best epoch; of a member that was not trained, measured now; none without a validation split."""
    data, member = dataset_of(config), ensemble.members[number]
    if result.history:
        metrics = result.history[result.best_epoch]
    elif data.val is not None:
        images = batches(data.val, evaluation_batch(config), ensemble.normalization, device_of(config))
        metrics = judge(
            member.network, Objective.balanced(member.classes, len(data.class_names), data.train.labels), images
        )
    else:
        metrics = {}
    return {name: value for name, value in metrics.items() if name not in ("loss", "train_loss")}


def open_member_run(ensemble: Ensemble, number: int, config: StageConfig, context: Context, split: str) -> Run:
    """A child run for one member, below the same parent as the stage's own."""
    classes = [ensemble.class_names[label] for label in ensemble.members[number].classes]
    member_tags = {
        tags.STAGE: "member",
        **{tags.UPSTREAM + name: run_id for name, run_id in context.upstream.items()},
        tags.UPSTREAM + config.stage: context.run.id,
        tags.CLASSES: json.dumps(classes),
        tags.MEMBER: str(number),
        tags.SPLIT: split,
        tags.DATASET: config.dataset,
        tags.ARCH: config.arch,
        tags.DATA_DIGEST: dataset_of(config).digest,
        tags.CONFIG: config.model_dump_json(),
    }
    return context.store.create(f"member {'+'.join(classes)[:60]} ({split})", context.parent, member_tags)


def named_for_member(metrics: dict[str, float]) -> dict[str, float]:
    """Outcome metrics under the names that member runs carry: the accuracy over a member's own outcomes is binary."""
    return {"binary_accuracy" if name == "accuracy" else name: value for name, value in metrics.items()}


def load(store: Store, run_id: str) -> Ensemble:
    """The ensemble of a run, on the CPU."""
    return load_ensemble(store.download(run_id, _MEMBERS))


def title(config: Retrain) -> str:
    """What tells one retraining from another."""
    return f"{prune.title(config)} epochs={config.epochs}"


stage = Stage(version=1, config=RetrainConfig, previous=prune.stage, execute=_execute, title=title)
run = stage.run
