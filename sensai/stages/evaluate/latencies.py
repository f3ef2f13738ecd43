"""Measure how long base model, members and ensemble take for live images, in their fastest runtime or a given one."""

import json

import numpy as np
import pandas as pd
import torch

from sensai.analysis.figures import static
from sensai.config import EvaluateConfig
from sensai.data.dataset import Split
from sensai.ensemble import Ensemble
from sensai.ensemble.calibration import Calibration
from sensai.pipeline.base_model import BaseModel
from sensai.pipeline.context import Context
from sensai.runtimes import Comparison, Prepared, compare_on_device, prepare
from sensai.tracking import artifact_names, tags


def critical_path(
    base: BaseModel, ensemble: Ensemble, split: Split, runtime: str, device: torch.device
) -> dict[str, float]:
    """Measure `latency_base_ms` and `latency_member_max_ms` of one image as `evaluate` does, without the whole ensemble."""
    comparison = compare_on_device(
        base.prepared(ensemble), ensemble, prepare(ensemble), None, split.images[split.rows[:1]], device, runtime
    )
    return {"latency_base_ms": comparison.base_ms, "latency_member_max_ms": max(comparison.member_ms)}


def measured(
    ensemble: Ensemble,
    prepared: Prepared,
    calibration: Calibration,
    split: Split,
    config: EvaluateConfig,
    context: Context,
) -> Comparison:
    """Time a batch of a split in all runtimes of the device that may be chosen; log them as table and figure."""

    def combine(outputs: list[np.ndarray]) -> np.ndarray:
        return calibration(outputs, ensemble.groups)

    images = split.images[split.rows[: config.latency_batch_size]]
    base, run = context.base_model.prepared(ensemble), context.run
    comparison = compare_on_device(base, ensemble, prepared, combine, images, context.device, config.runtime)
    table = pd.DataFrame(comparison.rows())
    run.log_frame(table, artifact_names.RUNTIMES)
    run.log_figure(static.runtimes(table), artifact_names.RUNTIMES_FIGURE)
    run.log_metrics({"overhead_ensemble": comparison.overhead})
    chosen = {network: f"{each.runtime} x{each.threads}" for network, each in comparison.chosen.items()}
    run.set_tags({tags.RUNTIME: json.dumps(chosen)})
    return comparison
