"""contention: Measure what trainings at once do to each other on this machine.

Logs times, memory and threads of trainings and of scorings: one after another, at once as naive processes, and together by the
engine. They come as tables of each repeat and of the means with intervals, as a figure, and as metrics with the number at once
as step. A run that is started again goes on with the repeats that are missing.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from sensai.analysis.contention_summary import ratios, summary
from sensai.analysis.figures import static
from sensai.config import ContentionConfig
from sensai.data.dataset import Dataset, Split
from sensai.data.dataset_names import FOLDER
from sensai.data.folders import image_folder
from sensai.evaluation import host
from sensai.pipeline.closing import Findings
from sensai.pipeline.context import Context
from sensai.pipeline.devices import device_of
from sensai.pipeline.stage import Stage
from sensai.stages import prune
from sensai.stages.contention.job import Job, save_job
from sensai.stages.contention.measuring import measure_repeats
from sensai.stages.prune.prune_execution import build
from sensai.tracking import Store, tags
from sensai.tracking.artifact_names import CONTENTION, CONTENTION_FIGURE, CONTENTION_SUMMARY

_LOGGED = ["images_per_s", "start_s", "step_ms", "data_share", "peak_mib", "threads"]


def _execute(config: ContentionConfig, context: Context) -> None:
    context.run.set_tags({tags.HOST: json.dumps(host())})
    counts, images = config.trainings, images_of(config, context.data)
    ensemble = build(context, prune.load(context.store, context.upstream["prune"]))
    folder = context.checkpoints.resolve()
    save_job(job_of(config, images, context), folder, images, context.base_model.network, ensemble, max(counts))
    measured = measure_repeats(folder, config.tasks, counts, config.repeats)
    table, speedups = summary(measured), ratios(measured, "naive")
    context.run.log_frame(measured, CONTENTION)
    context.run.log_frame(table, CONTENTION_SUMMARY)
    context.run.log_figure(static.contention(table), CONTENTION_FIGURE)
    for count in counts:
        metrics = _metrics(table[table["n"] == count], speedups[speedups["n"] == count])
        context.run.log_metrics(metrics, step=count)


def images_of(config: ContentionConfig, data: Dataset) -> Split:
    """Return `contention_images` training images, evenly spaced, so that every class has its part of them."""
    train = data.train
    count = min(config.contention_images, len(train))
    return replace(train, rows=train.rows[np.arange(count) * len(train) // count])


def job_of(config: ContentionConfig, images: Split, context: Context) -> Job:
    """Return the job that trains and scores with these images."""
    device = context.device
    return Job(
        image_shape=context.data.image_shape,
        batch_size=config.batch_size,
        scoring_batch=context.evaluation_batch,
        workers=config.workers,
        augmentation=context.augmentation("auto"),
        device=str(device),
        jobs=config.jobs or (None if device.type == "cpu" else 1),
        threads=config.threads,
        files=_files(config, images),
    )


def _files(config: ContentionConfig, images: Split) -> list[str] | None:
    """Return the files of an image folder's rows, which a user's own script would decode."""
    if config.dataset != FOLDER:
        return None
    names, _ = image_folder(Path(config.data_dir)).files["train"]
    return [str(Path(config.data_dir, names[row]).resolve()) for row in images.rows]


def _metrics(rows: pd.DataFrame, speedups: pd.DataFrame) -> dict[str, float]:
    """Return the means of all tasks and ways at one count, and the speedup of the engine over naive processes."""
    engine = speedups[speedups["way"] == "engine"]
    return {
        **{f"{row['task']}_{row['way']}_{name}": float(row[name]) for _, row in rows.iterrows() for name in _LOGGED},
        **{f"{task}_speedup": float(ratio) for task, ratio in zip(engine["task"], engine["ratio"], strict=True)},
    }


def found(store: Store, run_id: str) -> Findings:
    """Return the table of a run."""
    with store.downloaded(run_id, CONTENTION_SUMMARY) as file:
        return Findings([pd.read_csv(file).round(3).to_string(index=False)])


stage = Stage(
    version=3,
    config=ContentionConfig,
    previous=prune.stage,
    execute=_execute,
    found=found,
    reads=("train",),
    title=prune.run_title,
    inputs=lambda config, _: {"host": host(), "device": device_of(config).type},
)
run = stage.run
