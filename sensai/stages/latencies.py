"""What base model, members and ensemble take for images as they come live: in their fastest runtime, or a given one."""

import json
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from analysis import plots, tags
from sensai.data.dataset import Split
from sensai.ensemble import Ensemble
from sensai.ensemble.calibration import Calibration
from sensai.runtimes import CANDIDATES, GPU_CANDIDATES, Prepared, compare, prepare_base
from sensai.stages.configs import EvaluateConfig
from sensai.tracking import Run

_AUTO = "auto"


@dataclass(frozen=True)
class Latencies:
    """Milliseconds of a batch.

    Attributes:
        base: of the base model.
        members: of each member by itself.
        ensemble: of all members together.
    """

    base: float
    members: list[float]
    ensemble: float

    def metrics(self) -> dict[str, float]:
        """As `evaluate` logs them."""
        slowest = max(self.members)
        return {
            "latency_base_ms": self.base,
            "latency_member_max_ms": slowest,
            "latency_ensemble_ms": self.ensemble,
            "speedup_critical_path": self.base / slowest,
            "speedup_ensemble": self.base / self.ensemble,
        }


def measured(
    base: nn.Module,
    ensemble: Ensemble,
    prepared: Prepared,
    calibration: Calibration,
    split: Split,
    config: EvaluateConfig,
    device: torch.device,
    run: Run,
) -> Latencies:
    """Time a batch of a split in all runtimes of the device that may be chosen, which are logged as table and figure."""
    on_gpu = device.type == "cuda"
    images = split.images[split.rows[: config.latency_batch_size]].transpose(0, 2, 3, 1)
    candidates = GPU_CANDIDATES if on_gpu else CANDIDATES
    with torch.cuda.device(device) if on_gpu else nullcontext():
        comparison = compare(
            prepare_base(base, ensemble),
            prepared,
            np.ascontiguousarray(images),
            lambda outputs: calibration(outputs, ensemble.groups),
            1 if on_gpu else torch.get_num_threads(),
            names=candidates if config.runtime == _AUTO else (config.runtime,),
        )
    table = pd.DataFrame(comparison.rows())
    run.log_frame(table, "runtimes.csv")
    run.log_figure(plots.runtimes(table), "runtimes.png")
    run.log_metrics({"overhead_ensemble": comparison.overhead})
    chosen = {network: f"{each.runtime} x{each.threads}" for network, each in comparison.chosen.items()}
    run.set_tags({tags.RUNTIME: json.dumps(chosen)})
    return Latencies(comparison.base_ms, comparison.member_ms, comparison.ensemble_ms)
