"""activations: one pass over the training split. Logs images_per_s, overhead, the statistics and a class-similarity heatmap."""

import logging
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from analysis import plots
from sensai.activations import ActivationReader, Statistics, TaylorReader, load_statistics, save_statistics
from sensai.data.batches import batches
from sensai.sites import SiteMap
from sensai.stages.baseline import base_model, site_map
from sensai.stages.baseline import stage as baseline_stage
from sensai.stages.configs import ActivationsConfig
from sensai.stages.inputs import EVALUATION_BATCH, dataset_of, device_of, example_images, normalization_of
from sensai.stages.stage import Context, Stage
from sensai.tracking import Store

_log = logging.getLogger(__name__)
_STATISTICS = "statistics.safetensors"
# Batches on which the pass is timed beside a plain one, after one that warms up.
_TIMED_BATCHES = 5


def _execute(config: ActivationsConfig, context: Context) -> None:
    model, _ = base_model(context, config)
    sites = site_map(context, config)
    for layer, reason in sites.kept_whole.items():
        _log.info("%s is kept whole: %s", layer, reason)
    context.run.log_json(_description(sites), "sites.json")
    data = dataset_of(config)
    kind = TaylorReader if config.criterion == "taylor" else ActivationReader
    reader = kind(model, sites.sites, example_images(config), len(data.class_names), config.zero_threshold)
    statistics = _read(reader, model, config, context)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _STATISTICS
        save_statistics(statistics, path)
        context.run.log_file(path)
    similarity = class_similarity(statistics)
    context.run.log_frame(pd.DataFrame(similarity, columns=list(data.class_names)), "class_similarity.csv")
    figure = plots.heatmap(similarity, data.class_names, "Correlation of the classes' APoZ over all channels")
    context.run.log_figure(figure, "class_similarity.png")


def _read(reader: ActivationReader, model: nn.Module, config: ActivationsConfig, context: Context) -> Statistics:
    train = dataset_of(config).train
    stream = batches(train, EVALUATION_BATCH, normalization_of(config), device_of(config))
    reading, plain, count = 0.0, [], []
    start = time.perf_counter()
    for position, (images, labels) in enumerate(
        tqdm(stream, total=-(-len(train) // EVALUATION_BATCH), desc="activations")
    ):
        seconds = _timed(reader.read, images, labels)
        if 0 < position <= _TIMED_BATCHES:
            count.append(seconds)
            plain.append(_timed(model, images))
    reading = time.perf_counter() - start - sum(plain)
    context.run.log_metrics({"images_per_s": len(train) / reading})
    if plain:
        context.run.log_metrics({"overhead": float(np.median(np.divide(count, plain)))})
    return reader.statistics()


@torch.no_grad()
def _timed(call: object, *arguments: Tensor) -> float:
    start = time.perf_counter()
    call(*arguments)  # type: ignore[operator]
    if arguments[0].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def class_similarity(statistics: Statistics) -> np.ndarray:
    """float64 (K, K): correlation of two classes' APoZ over the channels of all sites; 0 where a class has no images."""
    first = next(iter(statistics.values()))
    rows = [
        np.concatenate([site.apoz([label]) for site in statistics.values()]) for label in range(len(first.elements))
    ]
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.corrcoef(np.stack(rows)))


def _description(sites: SiteMap) -> dict[str, object]:
    return {
        "sites": {site.name: {"channels": site.channels, "adders": list(site.adders)} for site in sites.sites},
        "kept_whole": sites.kept_whole,
        "head": sites.head,
    }


def load(store: Store, run_id: str) -> Statistics:
    """The statistics of a run."""
    return load_statistics(store.download(run_id, _STATISTICS))


def _title(config: ActivationsConfig) -> str:
    return "with a backward pass" if config.criterion == "taylor" else ""


stage = Stage(version=1, config=ActivationsConfig, previous=baseline_stage, execute=_execute, title=_title)
run = stage.run
