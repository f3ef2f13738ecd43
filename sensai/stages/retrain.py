"""retrain: every member trained on its own outcomes, all on one stream of batches. Logs val_accuracy, epochs_saved,
images_per_s, seconds and the members; one child run a member with its validation metrics and curves.
"""

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from analysis import plots, tags
from sensai.data.batches import batches
from sensai.ensemble import Ensemble, load_ensemble, save_ensemble
from sensai.evaluation import Size, size
from sensai.retraining.members import Stream, retrain_members
from sensai.retraining.objectives import Objective, judge
from sensai.retraining.trainee import Progress, Recipe
from sensai.stages import prune
from sensai.stages.baseline import base_model
from sensai.stages.configs import Retrain, RetrainConfig, StageConfig
from sensai.stages.inputs import augmentation_of, dataset_of, device_of, evaluation_batch
from sensai.stages.stage import Context, Stage
from sensai.tracking import Run, Store

_MEMBERS = "members"
_UNTRAINED = Progress(history=[], done=True, stopped_by="epochs=0")


def _execute(config: RetrainConfig, context: Context) -> None:
    plans = prune.load(context.store, context.upstream["prune"])
    ensemble = prune.build(context, config, plans)
    with ExitStack() as open_runs:
        runs = [open_member_run(ensemble, n, config, context, split="val") for n in range(len(ensemble.members))]
        for run in runs:
            open_runs.enter_context(run.closing())
        results = _fit(ensemble, config, context, runs) if config.epochs else [_UNTRAINED] * len(runs)
        measured = _validation_metrics(ensemble, config)
        for member, run, result, metrics in zip(ensemble.members, runs, results, measured, strict=True):
            _log_member(size(member.network, ensemble.spec.input_shape), result, metrics, run)
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


def _fit(ensemble: Ensemble, config: RetrainConfig, context: Context, runs: list[Run]) -> list[Progress]:
    recipe = Recipe(
        epochs=config.epochs,
        lr=config.lr,
        weight_decay=config.weight_decay,
        patience=config.patience,
        min_gain=config.min_gain,
        metric="accuracy" if config.loss.startswith("joint") else "balanced_accuracy",
        target=config.target,
    )
    device = device_of(config)
    stream = Stream(config.batch_size, augmentation_of(config.augmentation, config), config.seed, device)
    with tqdm(total=config.epochs * len(runs), desc="retrain", unit="epoch") as bar:

        def on_epoch(number: int, epoch: int, metrics: dict[str, float]) -> None:
            runs[number].log_epoch({f"curve/{name}": value for name, value in metrics.items()}, epoch)
            bar.update()

        return retrain_members(
            ensemble,
            dataset_of(config),
            recipe,
            stream,
            loss=config.loss,
            teacher=base_model(context, config)[0].eval(),
            teacher_share=config.kd_weight,
            checkpoints=context.checkpoints,
            on_epoch=on_epoch,
        )


def _log_member(sizes: Size, result: Progress, measured: dict[str, float], run: Run) -> None:
    metrics = {
        "params": sizes.params,
        "flops": sizes.flops,
        "epochs_run": len(result.history),
        "seconds": result.seconds,
    }
    run.log_metrics(metrics | named_for_member(measured))
    run.set_tags({tags.STOPPED_BY: result.stopped_by})
    if result.history:
        run.log_figure(plots.learning_curve(result.history), "learning_curve.png")


def _validation_metrics(ensemble: Ensemble, config: RetrainConfig) -> list[dict[str, float]]:
    """How each member tells its outcomes apart, as it is now; nothing without a validation split."""
    data = dataset_of(config)
    if data.val is None:
        return [{} for _ in ensemble.members]
    num_classes, labels = len(data.class_names), data.train.labels
    judged = [(each.network, Objective.balanced(each.classes, num_classes, labels)) for each in ensemble.members]
    images = batches(data.val, evaluation_batch(config), ensemble.normalization, device_of(config))
    return [{name: value for name, value in metrics.items() if name != "loss"} for metrics in judge(judged, images)]


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


stage = Stage(version=2, config=RetrainConfig, previous=prune.stage, execute=_execute, title=title)
run = stage.run
