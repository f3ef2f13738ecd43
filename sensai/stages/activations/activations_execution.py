"""Read the statistics of all channels in one pass, and log them."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from sensai.activations import ActivationReader, TaylorReader, load_statistics, save_statistics
from sensai.analysis.figures import static_matrices
from sensai.config import ActivationsConfig
from sensai.data.batches import batches
from sensai.files import make_folder, temporary_folder
from sensai.grouping.similarities import class_similarity
from sensai.pipeline.base_model import BaseModel
from sensai.pipeline.context import Context
from sensai.sites import SiteMap
from sensai.tracking.artifact_names import SIMILARITY, SIMILARITY_FIGURE, SITES, STATISTICS

_DIGITS = 6


# So many batches are also passed through the plain network, and both are timed.
_TIMED_BATCHES = 5


def execute(config: ActivationsConfig, context: Context) -> None:
    """Measure the channels and log the statistics."""
    base = context.base_model
    sites = base.sites
    context.run.log_json(_description(sites), SITES)
    class_names = context.data.class_names
    statistics = load_statistics(*_read(base, config, context))
    with temporary_folder() as folder:
        save_statistics(statistics, folder / STATISTICS)
        context.run.log_folder(folder)
    similarity = class_similarity(statistics)
    # People read the table, and the report's page holds a copy: with all digits a thousand classes would take 20 MB.
    frame = pd.DataFrame(similarity.round(_DIGITS), columns=list(class_names))
    context.run.log_frame(frame, SIMILARITY)
    figure = static_matrices.heatmap(similarity, class_names, "Correlation of the classes' APoZ over all channels")
    context.run.log_figure(figure, SIMILARITY_FIGURE)


@dataclass
class _Timing:
    """The images that were read, and the seconds of some batches with and without the statistics."""

    images: int = 0
    counted: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)

    def metrics(self, seconds: float) -> dict[str, float]:
        """Return the metrics of a pass that took so long; none where every shard was there already."""
        speed = {"images_per_s": self.images / (seconds - sum(self.plain))} if self.images else {}
        overhead = {"overhead": float(np.median(np.divide(self.counted, self.plain)))} if self.plain else {}
        return speed | overhead


def _read(base: BaseModel, config: ActivationsConfig, context: Context) -> list[Path]:
    """Make one pass in `shards` parts; return the files with the statistics of each.

    The parts that a killed pass finished are not read again.
    """
    train, classes = context.data.train, len(context.data.class_names)
    kind = TaylorReader if config.needs_backward else ActivationReader
    examples = context.example_images(base.spec)
    reader = kind(base.network, base.sites.sites, examples, classes, config.zero_threshold)
    normalization, batch = context.normalization(base.spec), context.evaluation_batch
    timing, start, paths = _Timing(), time.perf_counter(), []
    with tqdm(total=len(train), desc="activations", unit="image") as bar:
        for rows in shards(train.rows, config.shards, batch):
            path = context.checkpoints / f"rows_{rows[0]}_{rows[-1]}.safetensors"
            if path.exists():
                bar.update(len(rows))
            else:
                reader.clear()
                images = batches(replace(train, rows=rows), batch, normalization, context.device)
                _read_shard(reader, base.network, images, timing, bar)
                make_folder(path.parent, "work_dir")
                save_statistics(reader.statistics(), path)
            paths.append(path)
    context.run.log_metrics(timing.metrics(time.perf_counter() - start))
    return paths


def shards(rows: np.ndarray, count: int, batch_size: int) -> list[np.ndarray]:
    """Return consecutive parts of whole batches, so that an image stands in the same batch for any number of parts.

    Zeros and elements are then exactly those of one pass; magnitudes differ by the order of float64 additions (rtol 1e-12).
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
        "sites": {site.name: {"channels": site.channels, "producers": list(site.producers)} for site in sites.sites},
        "kept_whole": sites.kept_whole,
        "head": sites.head,
    }
