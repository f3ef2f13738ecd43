"""retrain: every member trained on its own outcomes, all on one stream of batches. Logs val_accuracy, val_in_group_accuracy,
epochs_saved, seconds_saved, images_per_s, seconds, all curves in one table and the members (bf16_speedup where precision=auto
has measured it, accuracy_given_up where the same was trained to the end too); one child run a member with its validation
metrics and curves.
"""

import json
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import partial
from typing import Any

import pandas as pd
from tqdm import tqdm

from sensai.analysis.figures import static
from sensai.cluster.cores import pinned
from sensai.config import Retrain, RetrainConfig, StageConfig
from sensai.config.parameter_types import parse_budget
from sensai.data.batches import batches
from sensai.ensemble import Ensemble, load_ensemble, save_ensemble
from sensai.evaluation import Size, size
from sensai.files import temporary_folder, write_text
from sensai.models.layout import laid_out
from sensai.pipeline import callbacks
from sensai.pipeline.context import augmentation_of, dataset_of, device_of, evaluation_batch, example_images
from sensai.pipeline.stage import Context, Stage
from sensai.stages import prune
from sensai.stages.baseline import base_model
from sensai.stages.group import class_label
from sensai.stages.retrain.gradual import Course, Step, steps_of, train_in_steps
from sensai.stages.retrain.workers import open_slots
from sensai.tracking import Run, Store, tags
from sensai.tracking.artifact_names import CURVE_FIGURE, CURVES, MEMBERS
from sensai.training.checkpoints import Progress
from sensai.training.fitting import Budget
from sensai.training.members import Slots, retrain_members
from sensai.training.objectives import Objective, judge
from sensai.training.precision import Precision, faster_precision
from sensai.training.slots import Lesson, Stream
from sensai.training.trainee import Recipe

_log = logging.getLogger(__name__)
# Characters of a tag.
_LONGEST_CLASSES = 1000
_UNTRAINED = Course([Progress(history=[], done=True, stopped_by="epochs=0")])


def _execute(config: RetrainConfig, context: Context) -> None:
    steps = steps_of(config, context)
    ensemble = prune.build(context, config, steps[0].plans)
    with ExitStack() as open_runs:
        runs = [open_member_run(ensemble, n, config, context, split="val") for n in range(len(ensemble.members))]
        for run in runs:
            open_runs.enter_context(run.closing())
        slots = open_runs.enter_context(open_slots(_costs(ensemble), config))
        courses = [_UNTRAINED] * len(runs)
        if config.epochs:
            fit = partial(_fit, slots=slots, config=config, context=context, runs=runs)
            ensemble, courses = train_in_steps(ensemble, steps, fit, config, context)
        measured = _validation_metrics(ensemble, config)
        for member, run, course, metrics in zip(ensemble.members, runs, courses, measured, strict=True):
            _log_member(size(member.network, ensemble.spec.input_shape), course, metrics, run)
    if config.epochs:
        context.run.log_frame(_curves(ensemble, courses, runs), CURVES)
    context.run.log_metrics(_savings(courses, sum(step.epochs for step in steps), slots, config))
    validated = prune.log_validation(ensemble, config, context.run)
    context.run.log_metrics(_given_up(validated, config, context))
    with temporary_folder() as folder:
        save_ensemble(ensemble, folder)
        context.run.log_folder(folder, MEMBERS)


def _fit(
    ensemble: Ensemble,
    step: Step,
    epochs_before: Sequence[int],
    slots: Slots,
    config: RetrainConfig,
    context: Context,
    runs: Sequence[Run],
) -> list[Progress]:
    recipe = Recipe(
        epochs=step.epochs,
        lr=config.lr,
        weight_decay=config.weight_decay,
        patience=config.patience,
        min_gain=config.min_gain,
        metric="accuracy" if config.loss.startswith("joint") else "balanced_accuracy",
        target=config.target,
    )
    lesson = Lesson(config.loss, config.kd_weight, config.balance, _precision(ensemble, config, context, slots))
    epochs, seconds = parse_budget(config.budget)
    watcher = callbacks.current()
    with _progress_bars(slots, step.epochs) as bars:

        def on_epoch(number: int, epoch: int, metrics: dict[str, float]) -> None:
            curve = {f"curve/{name}": value for name, value in metrics.items()}
            runs[number].log_metrics(curve, epochs_before[number] + epoch)
            bars[number].update()
            watcher.on_epoch(number, len(runs), epochs_before[number] + epoch, metrics.get(recipe.metric, math.nan))

        return retrain_members(
            ensemble,
            dataset_of(config),
            recipe,
            Stream(config.batch_size, augmentation_of(config.augmentation, config), config.seed),
            lesson,
            slots,
            teacher=base_model(context, config)[0].eval() if lesson.taught else None,
            folder=step.checkpoints,
            budget=Budget(epochs, seconds) if config.budget else None,
            on_epoch=on_epoch,
            why_end=watcher.why_end,
        )


def _costs(ensemble: Ensemble) -> list[int]:
    """The FLOPs of each member, as they are now."""
    return [size(member.network, ensemble.spec.input_shape).flops for member in ensemble.members]


def _precision(ensemble: Ensemble, config: RetrainConfig, context: Context, slots: Slots) -> Precision:
    """What training is computed in; a choice that was measured stays with the checkpoints."""
    if config.precision != "auto":
        return config.precision
    kept = context.checkpoints / "precision.json"
    if kept.exists():
        _log.info("precision: as it was measured when this training began")
    else:
        images = example_images(config, ensemble.spec, min(config.batch_size, len(dataset_of(config).train)))
        network = laid_out(deepcopy(ensemble.members[0].network), ensemble.spec.memory_format)
        with pinned(slots.threads):
            choice = faster_precision(network, images)
        _log.info("precision: %s", choice)
        write_text(kept, json.dumps({"precision": choice.precision, "bf16_speedup": choice.gain}))
    measured = json.loads(kept.read_text())
    context.run.log_metrics({"bf16_speedup": measured["bf16_speedup"]})
    context.run.set_tags({tags.PRECISION: measured["precision"]})
    return measured["precision"]


@contextmanager
def _progress_bars(slots: Slots, epochs: int) -> Iterator[dict[int, "tqdm[Any]"]]:
    """Member -> the bar of its slot."""
    with ExitStack() as open_bars:
        bars = [
            open_bars.enter_context(
                tqdm(total=epochs * len(members), desc=f"retrain, slot {slot}", unit="epoch", position=slot)
            )
            for slot, members in enumerate(slots.members)
        ]
        yield {number: bar for members, bar in zip(slots.members, bars, strict=True) for number in members}


def _savings(courses: list[Course], most: int, slots: Slots, config: RetrainConfig) -> dict[str, float]:
    """What was trained, and what stops have saved against training every member for `most` epochs, each at its own pace.

    Seconds are those of the slot that took longest.
    """
    epochs = [len(course.history) for course in courses]
    spent = [course.seconds for course in courses]
    to_the_end = [most * took / max(run, 1) for run, took in zip(epochs, spent, strict=True)]
    seconds = _longest(spent, slots)
    metrics = {
        "seconds": seconds,
        "epochs_saved": most * len(courses) - sum(epochs),
        "seconds_saved": _longest(to_the_end, slots) - seconds,
    }
    return metrics | ({"images_per_s": sum(epochs) * len(dataset_of(config).train) / seconds} if seconds else {})


def _longest(seconds: list[float], slots: Slots) -> float:
    return max(sum(seconds[number] for number in members) for members in slots.members)


def _given_up(validated: dict[str, float], config: RetrainConfig, context: Context) -> dict[str, float]:
    """What stops have cost in accuracy, where the same members have also been trained to the end."""
    to_the_end = config.model_copy(update={"patience": 0, "target": None, "budget": ""})
    if not validated or not config.epochs or to_the_end == config:
        return {}
    upstream = context.store.tags_of(context.upstream["prune"])[tags.FINGERPRINT]
    found = context.store.find(stage.name, stage.fingerprint(to_the_end, upstream))
    if found is None:
        _log.info(
            "accuracy_given_up: not known before the same is run with patience=0 and neither target nor budget, "
            "and then this again with force=true"
        )
        return {}
    return {
        "accuracy_given_up": context.store.metrics_of(found.info.run_id)["val_accuracy"] - validated["val_accuracy"]
    }


def _log_member(sizes: Size, course: Course, measured: dict[str, float], run: Run) -> None:
    metrics = {
        "params": sizes.params,
        "flops": sizes.flops,
        "epochs_run": len(course.history),
        "seconds": course.seconds,
    }
    run.log_metrics(metrics | named_for_member(measured))
    run.set_tags({tags.STOPPED_BY: course.stopped_by} | ({tags.RETRIED: course.failure} if course.failure else {}))
    if course.cuts:
        run.set_tags({tags.CUTS: json.dumps(course.cuts)})
    if course.history:
        run.log_figure(static.learning_curve(course.history, course.cuts), CURVE_FIGURE)


def _curves(ensemble: Ensemble, courses: Sequence[Course], runs: Sequence[Run]) -> pd.DataFrame:
    """Every epoch of every member, as `sensai.analysis.curves` reads them at once."""
    rows = [
        {
            "run_id": run.id,
            "member": number,
            "classes": class_label(ensemble.members[number].classes, ensemble.class_names),
            "stopped_by": course.stopped_by,
            "epoch": epoch,
            **dict(sorted(metrics.items())),
        }
        for number, (course, run) in enumerate(zip(courses, runs, strict=True))
        for epoch, metrics in enumerate(course.history)
    ]
    return pd.DataFrame(rows)


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
        tags.CLASSES: classes_tag(classes),
        tags.MEMBER: str(number),
        tags.SPLIT: split,
        tags.DATASET: config.dataset,
        tags.ARCH: config.arch,
        tags.DATA_DIGEST: dataset_of(config).digest,
        tags.CONFIG: config.model_dump_json(),
    }
    return context.store.create(f"member {'+'.join(classes)[:60]} ({split})", context.parent, member_tags)


def classes_tag(names: Sequence[str]) -> str:
    """Return the names as a JSON list, or where that is long the first one and how many there are.

    A database refuses long tags; the groups.json of the run's `group` has all names.
    """
    text = json.dumps(names)
    return text if len(text) <= _LONGEST_CLASSES else json.dumps({"first": names[0], "count": len(names)})


def named_for_member(metrics: dict[str, float]) -> dict[str, float]:
    """Outcome metrics under the names that member runs carry: the accuracy over a member's own outcomes is binary."""
    return {"binary_accuracy" if name == "accuracy" else name: value for name, value in metrics.items()}


def load(store: Store, run_id: str) -> Ensemble:
    """The ensemble of a run, on the CPU."""
    with store.downloaded(run_id, MEMBERS) as folder:
        return load_ensemble(folder)


def title(config: Retrain) -> str:
    """What tells one retraining from another."""
    gradually = f" cut_steps={config.cut_steps}" if config.epochs and config.cut_steps > 1 else ""
    loss = f" loss={config.loss}" if config.epochs and config.loss != "bce" else ""
    return f"{prune.run_title(config)} epochs={config.epochs}{loss}{gradually}"


def _inputs(config: RetrainConfig) -> dict[str, int | None]:
    # Each slot gets its part of a budget.
    return {"jobs": config.jobs} if config.epochs and config.budget else {}


stage = Stage(version=6, config=RetrainConfig, previous=prune.stage, execute=_execute, title=title, inputs=_inputs)
run = stage.run
