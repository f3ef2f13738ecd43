"""Measure how long base model, members and ensemble take for live images, in their fastest runtime or a given one."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from sensai.analysis.figures import static
from sensai.config import EvaluateConfig
from sensai.data.dataset import Split
from sensai.ensemble import Ensemble
from sensai.ensemble.calibration import Calibration
from sensai.pipeline.context import Context
from sensai.runtimes import RUNTIMES, Combine, Comparison, Prepared, candidates, compare, prepare, prepare_base
from sensai.terminal import waiting
from sensai.tracking import artifact_names, tags

_AUTO = "auto"


@dataclass(frozen=True)
class Latencies:
    """Milliseconds of a batch.

    Attributes:
        base: of the base model.
        members: of each member by itself.
        ensemble: of all members together.
        intervals: `base` and `ensemble` -> 95 % interval of the median.
    """

    base: float
    members: list[float]
    ensemble: float
    intervals: Mapping[str, tuple[float, float]]

    def metrics(self) -> dict[str, float]:
        """Return the metrics that `evaluate` logs."""
        slowest = max(self.members)
        return {
            "latency_base_ms": self.base,
            "latency_member_max_ms": slowest,
            "latency_ensemble_ms": self.ensemble,
            "speedup_critical_path": self.base / slowest,
            "speedup_ensemble": self.base / self.ensemble,
            **{f"latency_{network}_low_ms": low for network, (low, _) in self.intervals.items()},
            **{f"latency_{network}_high_ms": high for network, (_, high) in self.intervals.items()},
        }


def critical_path(
    base: nn.Module, ensemble: Ensemble, split: Split, runtime: str, device: torch.device
) -> dict[str, float]:
    """Measure `latency_base_ms` and `latency_member_max_ms` of one image as `evaluate` does, without the whole ensemble."""
    comparison = _compared(base, ensemble, prepare(ensemble), None, split.images[split.rows[:1]], runtime, device)
    return {"latency_base_ms": comparison.base_ms, "latency_member_max_ms": max(comparison.member_ms)}


def measured(
    ensemble: Ensemble,
    prepared: Prepared,
    calibration: Calibration,
    split: Split,
    config: EvaluateConfig,
    context: Context,
) -> Latencies:
    """Time a batch of a split in all runtimes of the device that may be chosen; log them as table and figure."""

    def combine(outputs: list[np.ndarray]) -> np.ndarray:
        return calibration(outputs, ensemble.groups)

    images = split.images[split.rows[: config.latency_batch_size]]
    base, run = context.base_model.network, context.run
    comparison = _compared(base, ensemble, prepared, combine, images, config.runtime, context.device)
    table = pd.DataFrame(comparison.rows())
    run.log_frame(table, artifact_names.RUNTIMES)
    run.log_figure(static.runtimes(table), artifact_names.RUNTIMES_FIGURE)
    run.log_metrics({"overhead_ensemble": comparison.overhead})
    chosen = {network: f"{each.runtime} x{each.threads}" for network, each in comparison.chosen.items()}
    run.set_tags({tags.RUNTIME: json.dumps(chosen)})
    return Latencies(comparison.base_ms, comparison.member_ms, comparison.ensemble_ms, comparison.intervals)


def _compared(
    base: nn.Module,
    ensemble: Ensemble,
    prepared: Prepared,
    combine: Combine | None,
    images: np.ndarray,
    runtime: str,
    device: torch.device,
) -> Comparison:
    """Compare the times for images (N, C, H, W) in a runtime or, for `auto`, in the fastest of the device."""
    on_gpu = device.type == "cuda"
    names = (runtime,) if runtime != _AUTO else candidates(device.type)
    what = f"opens base model and {len(ensemble.members)} members in {', '.join(names)}, and times them"
    with waiting(what), torch.cuda.device(device) if on_gpu else nullcontext():
        return compare(
            prepare_base(base, ensemble),
            prepared,
            np.ascontiguousarray(images.transpose(0, 2, 3, 1)),
            combine,
            1 if {RUNTIMES[name].traits["device"] for name in names} == {"cuda"} else torch.get_num_threads(),
            names=names,
        )
