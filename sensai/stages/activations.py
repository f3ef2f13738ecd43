"""activations: one pass over the training split. Logs images_per_s, overhead, the statistics and a class-similarity heatmap."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from sensai.activations import ActivationReader, Statistics, TaylorReader, load_statistics, save_statistics
from sensai.analysis.figures import static_matrices
from sensai.config import ActivationsConfig
from sensai.data.batches import batches
from sensai.files import make_folder, temporary_folder
from sensai.grouping.similarities import class_similarity
from sensai.models.factory import NetworkSpec
from sensai.pipeline.context import dataset_of, device_of, evaluation_batch, example_images, normalization_of
from sensai.pipeline.stage import Context, Stage
from sensai.sites import SiteMap
from sensai.stages.baseline import base_model, site_map
from sensai.stages.baseline import stage as baseline_stage
from sensai.tracking import Store
from sensai.tracking.artifact_names import SIMILARITY, SIMILARITY_FIGURE, SITES, STATISTICS

_log = logging.getLogger(__name__)
_DIGITS = 6
# Batches on which the pass is timed beside a plain one.
_TIMED_BATCHES = 5


def _execute(config: ActivationsConfig, context: Context) -> None:
    model, spec = base_model(context, config)
    sites = site_map(context, config)
    for layer, reason in sites.kept_whole.items():
        _log.info("%s is kept whole: %s", layer, reason)
    context.run.log_json(_description(sites), SITES)
    data = dataset_of(config)
    statistics = load_statistics(*_read(model, spec, sites, config, context))
    with temporary_folder() as folder:
        save_statistics(statistics, folder / STATISTICS)
        context.run.log_folder(folder)
    similarity = class_similarity(statistics)
    # For people: with all digits a thousand classes are 20 MB, of which the report's page holds a copy.
    frame = pd.DataFrame(similarity.round(_DIGITS), columns=list(data.class_names))
    context.run.log_frame(frame, SIMILARITY)
    figure = static_matrices.heatmap(similarity, data.class_names, "Correlation of the classes' APoZ over all channels")
    context.run.log_figure(figure, SIMILARITY_FIGURE)


@dataclass
class _Timing:
    """Images that were read, and the seconds of some batches with and without the statistics."""

    images: int = 0
    counted: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)

    def metrics(self, seconds: float) -> dict[str, float]:
        """What a pass that took so long gives to log: nothing where every shard was there already."""
        speed = {"images_per_s": self.images / (seconds - sum(self.plain))} if self.images else {}
        overhead = {"overhead": float(np.median(np.divide(self.counted, self.plain)))} if self.plain else {}
        return speed | overhead


def _read(
    model: nn.Module, spec: NetworkSpec, sites: SiteMap, config: ActivationsConfig, context: Context
) -> list[Path]:
    """One pass in `shards` parts, the statistics of each in a file; what a killed pass finished is not read again."""
    train, classes = dataset_of(config).train, len(dataset_of(config).class_names)
    kind = TaylorReader if config.needs_backward else ActivationReader
    reader = kind(model, sites.sites, example_images(config, spec), classes, config.zero_threshold)
    normalization = normalization_of(config, spec)
    timing, start, paths = _Timing(), time.perf_counter(), []
    with tqdm(total=len(train), desc="activations", unit="image") as bar:
        for rows in shards(train.rows, config.shards, evaluation_batch(config)):
            path = context.checkpoints / f"rows_{rows[0]}_{rows[-1]}.safetensors"
            if path.exists():
                bar.update(len(rows))
            else:
                reader.clear()
                images = batches(replace(train, rows=rows), evaluation_batch(config), normalization, device_of(config))
                _read_shard(reader, model, images, timing, bar)
                make_folder(path.parent, "work_dir")
                save_statistics(reader.statistics(), path)
            paths.append(path)
    context.run.log_metrics(timing.metrics(time.perf_counter() - start))
    return paths


def shards(rows: np.ndarray, count: int, batch_size: int) -> list[np.ndarray]:
    """Consecutive parts of whole batches, so that an image meets the same batch whatever the number of parts.

    Zeros and elements are then those of one pass exactly, magnitudes but for the order of float64 additions (rtol 1e-12).
    Where there are fewer batches than `count`, there are as many parts as batches.
    """
    total = -(-len(rows) // batch_size)
    edges = [number * total // count * batch_size for number in range(1, count)]
    return [part for part in np.split(rows, edges) if len(part)]


def _read_shard(
    reader: ActivationReader,
    model: nn.Module,
    shard: Iterable[tuple[Tensor, Tensor]],
    timing: _Timing,
    bar: tqdm,
) -> None:
    for images, labels in shard:
        seconds = _timed(reader.read, images, labels)
        # The first batch warms up.
        if timing.images and len(timing.plain) < _TIMED_BATCHES:
            timing.counted.append(seconds)
            timing.plain.append(_timed(model, images))
        timing.images += len(images)
        bar.update(len(images))


@torch.no_grad()
def _timed(call: object, *arguments: Tensor) -> float:
    start = time.perf_counter()
    call(*arguments)  # type: ignore[operator]
    if arguments[0].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _description(sites: SiteMap) -> dict[str, object]:
    return {
        "sites": {site.name: {"channels": site.channels, "adders": list(site.adders)} for site in sites.sites},
        "kept_whole": sites.kept_whole,
        "head": sites.head,
    }


@lru_cache(maxsize=1)
def load(store: Store, run_id: str) -> Statistics:
    """The statistics of a run; shared within the process, so not to be changed."""
    with store.downloaded(run_id, STATISTICS) as file:
        return load_statistics(file)


def _title(config: ActivationsConfig) -> str:
    return "with a backward pass" if config.needs_backward else ""


stage = Stage(version=3, config=ActivationsConfig, previous=baseline_stage, execute=_execute, title=_title)
run = stage.run
