"""Train the members, and log them with their curves and validation metrics."""

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from sensai import evaluation
from sensai.analysis.figures import static
from sensai.cluster.cores import pinned
from sensai.config import RetrainConfig
from sensai.ensemble import Ensemble, save_ensemble
from sensai.ensemble.building import initialise_anew
from sensai.evaluation import Size, size
from sensai.files import temporary_folder, write_text
from sensai.grouping.partitions import class_label
from sensai.models.layout import laid_out
from sensai.pipeline import callbacks
from sensai.pipeline.configured import training_config
from sensai.pipeline.context import Context
from sensai.pipeline.lineage import upstream_tags
from sensai.pipeline.open_workers import open_workers
from sensai.pipeline.run_lifecycle import Description, open_run
from sensai.pipeline.stage import stage_tags
from sensai.stages.prune import prune_execution
from sensai.stages.retrain import stage
from sensai.stages.retrain.gradual import epochs_of_steps, plans_of_steps, train_in_steps
from sensai.tracking import Run, tags
from sensai.tracking.artifact_names import CURVE_FIGURE, CURVES, MEMBERS
from sensai.training.checkpoints import TrainingHistory, epoch_text
from sensai.training.members import Workers, retrain_members
from sensai.training.precision import Precision, faster_precision
from sensai.training.stopping import DEFAULT_STOP_RULES

_log = logging.getLogger(__name__)


# Characters of a tag.
_LONGEST_CLASSES = 1000


_UNTRAINED = TrainingHistory(done=True, stopped_by="epochs=0")


def execute(config: RetrainConfig, context: Context) -> None:
    """Train the members and log them."""
    plans = plans_of_steps(config, context)
    ensemble = prune_execution.build(context, plans[0])
    if config.epochs and config.initial_weights == "random":
        initialise_anew(ensemble, config.seed)
    with ExitStack() as open_runs:
        runs = [
            open_runs.enter_context(open_member_run(ensemble, number, context, split="val"))
            for number in range(len(ensemble.members))
        ]
        workers = open_runs.enter_context(open_workers(_costs(ensemble), config))
        histories = [_UNTRAINED] * len(runs)
        if config.epochs:
            train = partial(_train, workers=workers, config=config, context=context, runs=runs)
            ensemble, histories = train_in_steps(ensemble, plans, train, config, context)
        for member, run, history in zip(ensemble.members, runs, histories, strict=True):
            _log_member(size(member.network, ensemble.spec.input_shape), history, run)
        outputs = prune_execution.validation_outputs(ensemble, context)
        if outputs is not None:
            _log_validation_metrics(outputs, ensemble, runs)
    if config.epochs:
        context.run.log_frame(_curves(ensemble, histories, runs), CURVES)
        context.run.set_tags({tags.DEVICE: workers.devices[0].type})
    context.run.log_metrics({"train_images": len(context.data.train)})
    context.run.log_metrics(_savings(histories, sum(epochs_of_steps(len(plans), config)), workers, context))
    validated = {} if outputs is None else prune_execution.log_validation(outputs, ensemble, context)
    context.run.log_metrics(_given_up(validated, config, context))
    with temporary_folder() as folder:
        save_ensemble(ensemble, folder)
        context.run.log_folder(folder, MEMBERS)


def _train(
    ensemble: Ensemble,
    epochs: int,
    folder: Path,
    epochs_before: Sequence[int],
    *,
    workers: Workers,
    config: RetrainConfig,
    context: Context,
    runs: Sequence[Run],
) -> list[TrainingHistory]:
    """Train the members after one cut, and log every epoch to the members' runs."""
    precision = _precision(ensemble, config, context, workers)
    augmentation = context.augmentation(config.augmentation)
    training = training_config(config, augmentation, len(ensemble.class_names), epochs, precision)
    watcher = callbacks.current()
    with _progress_bars(workers, epochs) as bars:

        def on_epoch(number: int, epoch: int, metrics: dict[str, float]) -> None:
            total = epochs_before[number] + epoch
            runs[number].log_metrics({f"curve/{name}": value for name, value in metrics.items()}, total)
            bars[number].set_postfix_str(epoch_text(metrics, training.optimizer.metric), refresh=False)
            bars[number].update()
            watcher.on_epoch(number, len(runs), total, metrics.get(training.optimizer.metric, math.nan))

        return retrain_members(
            ensemble,
            context.data,
            training,
            workers,
            teacher=context.base_model.network.eval() if training.objective.uses_teacher else None,
            folder=folder,
            on_epoch=on_epoch,
            why_end=watcher.why_end,
        )


def _costs(ensemble: Ensemble) -> list[int]:
    """Return the present FLOPs of each member."""
    return [size(member.network, ensemble.spec.input_shape).flops for member in ensemble.members]


def _precision(ensemble: Ensemble, config: RetrainConfig, context: Context, workers: Workers) -> Precision:
    """Return the precision of the training; a measured choice is stored with the checkpoints."""
    if config.precision != "auto":
        return config.precision
    kept = context.checkpoints / "precision.json"
    if kept.exists():
        _log.info("precision: as it was measured when this training began")
    else:
        images = context.example_images(ensemble.spec, min(config.batch_size, len(context.data.train)))
        network = laid_out(deepcopy(ensemble.members[0].network), ensemble.spec.memory_format)
        with pinned(workers.threads):
            choice = faster_precision(network, images)
        _log.info("precision: %s", choice)
        write_text(kept, json.dumps({"precision": choice.precision, "bf16_speedup": choice.gain}))
    measured = json.loads(kept.read_text())
    context.run.log_metrics({"bf16_speedup": measured["bf16_speedup"]})
    context.run.set_tags({tags.PRECISION: measured["precision"]})
    return measured["precision"]


@contextmanager
def _progress_bars(workers: Workers, epochs: int) -> Iterator[dict[int, "tqdm[Any]"]]:
    """Yield member -> the progress bar of its worker."""
    with ExitStack() as open_bars:
        bars = [
            open_bars.enter_context(
                tqdm(total=epochs * len(members), desc=f"retrain, worker {worker}", unit="epoch", position=worker)
            )
            for worker, members in enumerate(workers.members)
        ]
        for bar in bars:
            bar.set_postfix_str("workers start, then the first epoch")
        yield {number: bar for members, bar in zip(workers.members, bars, strict=True) for number in members}


def _savings(histories: list[TrainingHistory], most: int, workers: Workers, context: Context) -> dict[str, float]:
    """Return the metrics of what was trained, and of what stops saved against `most` epochs of every member at its own pace.

    Seconds are those of the slowest worker.
    """
    epochs = [len(history.epochs) for history in histories]
    spent = [history.seconds for history in histories]
    to_the_end = [most * took / max(run, 1) for run, took in zip(epochs, spent, strict=True)]
    seconds = _longest(spent, workers)
    metrics = {
        "seconds": seconds,
        "epochs_saved": most * len(histories) - sum(epochs),
        "seconds_saved": _longest(to_the_end, workers) - seconds,
    }
    return metrics | ({"images_per_s": sum(epochs) * len(context.data.train) / seconds} if seconds else {})


def _longest(seconds: list[float], workers: Workers) -> float:
    return max(sum(seconds[number] for number in members) for members in workers.members)


def _given_up(validated: dict[str, float], config: RetrainConfig, context: Context) -> dict[str, float]:
    """Return the accuracy that stops have cost, where the same members have also been trained to the end."""
    to_the_end = config.model_copy(
        update={"patience": 0, "target": None, "stop_rules": DEFAULT_STOP_RULES, "budget": None}
    )
    if not validated or not config.epochs or to_the_end == config:
        return {}
    upstream = context.store.tags_of(context.upstream["prune"])[tags.FINGERPRINT]
    found = context.store.find(stage.name, stage.fingerprint(to_the_end, context.session, upstream))
    if found is None:
        _log.info(
            "accuracy_given_up: not known before the same is run with patience=0 and neither target nor budget, "
            "and then this again with force=true"
        )
        return {}
    return {
        "accuracy_given_up": context.store.metrics_of(found.info.run_id)["val_accuracy"] - validated["val_accuracy"]
    }


def _log_member(sizes: Size, history: TrainingHistory, run: Run) -> None:
    metrics = {
        "params": sizes.params,
        "flops": sizes.flops,
        "epochs_run": len(history.epochs),
        "seconds": history.seconds,
    }
    run.log_metrics(metrics)
    run.set_tags({tags.STOPPED_BY: history.stopped_by} | ({tags.RETRIED: history.failure} if history.failure else {}))
    if history.cuts:
        run.set_tags({tags.CUTS: json.dumps(history.cuts)})
    if history.epochs:
        run.log_figure(static.learning_curve(history.epochs, history.cuts), CURVE_FIGURE)


def _curves(ensemble: Ensemble, histories: Sequence[TrainingHistory], runs: Sequence[Run]) -> pd.DataFrame:
    """Return every epoch of every member, as `sensai.analysis.curves` reads them."""
    rows = [
        {
            "run_id": run.id,
            "member": number,
            "classes": class_label(ensemble.members[number].classes, ensemble.class_names),
            "stopped_by": history.stopped_by,
            "epoch": epoch,
            **dict(sorted(metrics.items())),
        }
        for number, (history, run) in enumerate(zip(histories, runs, strict=True))
        for epoch, metrics in enumerate(history.epochs)
    ]
    return pd.DataFrame(rows)


def _log_validation_metrics(outputs: evaluation.Outputs, ensemble: Ensemble, runs: Sequence[Run]) -> None:
    """Log the validation metrics of each member to its run."""
    # Thresholds that are fitted and judged on the same few images flatter.
    thresholds = evaluation.cross_fitted_thresholds(outputs, ensemble)
    measured = evaluation.member_metrics(outputs, ensemble, thresholds)
    for run, metrics, fitted in zip(runs, measured, thresholds, strict=True):
        log_member_metrics(metrics, fitted, run)


def log_member_metrics(metrics: Mapping[str, float], thresholds: evaluation.Thresholds | None, run: Run) -> None:
    """Log metrics of a member, and how the thresholds were found if it has any."""
    run.log_metrics(metrics)
    if thresholds is not None:
        run.set_tags({tags.THRESHOLDS: thresholds.source})


@contextmanager
def open_member_run(ensemble: Ensemble, number: int, context: Context, split: str) -> Iterator[Run]:
    """Open a run for one member, below the same parent as the stage's own; it ends with the block."""
    classes = [ensemble.class_names[label] for label in ensemble.members[number].classes]
    member_tags = {
        **stage_tags("member", context.config, context.session),
        **upstream_tags({**context.upstream, context.config.stage: context.run.id}),
        tags.CLASSES: classes_tag(classes),
        tags.MEMBER: str(number),
        tags.SPLIT: split,
    }
    description = Description(f"member {'+'.join(classes)[:60]} ({split})", member_tags)
    with open_run(context.store, description, context.parent) as run:
        yield run


def classes_tag(names: Sequence[str]) -> str:
    """Return the names as a JSON list, or where that is long the first one and how many there are.

    A database refuses long tags; the groups.json of the run's `group` has all names.
    """
    text = json.dumps(names)
    return text if len(text) <= _LONGEST_CLASSES else json.dumps({"first": names[0], "count": len(names)})
