"""What base model, members and ensemble take for images as they come live: in their fastest runtime, or a given one."""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from analysis import plots, tags
from sensai import evaluation
from sensai.data.dataset import Split
from sensai.ensemble import Ensemble
from sensai.ensemble.calibration import Calibration
from sensai.runtimes import CANDIDATES, Prepared, compare, prepare, prepare_base
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


def critical_path(
    base: nn.Module, ensemble: Ensemble, split: Split, names: tuple[str, ...], device: torch.device
) -> dict[str, float]:
    """`latency_base_ms` and `latency_member_max_ms` of one image, measured as for `evaluate`, without the whole ensemble."""
    if device.type != "cpu":
        times = _eager(base, ensemble, device)
        base_ms, members_ms = times.base, times.members
    else:
        images = np.ascontiguousarray(split.images[split.rows[:1]].transpose(0, 2, 3, 1))
        prepared = prepare(ensemble)
        comparison = compare(prepare_base(base, ensemble), prepared, images, None, torch.get_num_threads(), names=names)
        base_ms, members_ms = comparison.base_ms, comparison.member_ms
    return {"latency_base_ms": base_ms, "latency_member_max_ms": max(members_ms)}


def candidates(runtime: str) -> tuple[str, ...]:
    """The runtimes that a parameter leaves to choose from."""
    return CANDIDATES if runtime == _AUTO else (runtime,)


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
    """Time a batch of a split; on a CPU in all runtimes that may be chosen, which are logged as table and figure."""
    if device.type != "cpu":
        return _eager(base, ensemble, device)
    images = split.images[split.rows[: config.latency_batch_size]].transpose(0, 2, 3, 1)
    comparison = compare(
        prepare_base(base, ensemble),
        prepared,
        np.ascontiguousarray(images),
        lambda outputs: calibration(outputs, ensemble.groups),
        torch.get_num_threads(),
        names=candidates(config.runtime),
    )
    table = pd.DataFrame(comparison.rows())
    run.log_frame(table, "runtimes.csv")
    run.log_figure(plots.runtimes(table), "runtimes.png")
    run.log_metrics({"overhead_ensemble": comparison.overhead})
    chosen = {network: f"{each.runtime} x{each.threads}" for network, each in comparison.chosen.items()}
    run.set_tags({tags.RUNTIME: json.dumps(chosen)})
    return Latencies(comparison.base_ms, comparison.member_ms, comparison.ensemble_ms)


def _eager(base: nn.Module, ensemble: Ensemble, device: torch.device) -> Latencies:
    """One image on an accelerator, by torch's own operators: the runtimes are those of processors."""
    base_ms, ensemble_ms, *members_ms = (
        evaluation.latency_ms(network, ensemble.spec.input_shape, device)
        for network in (base, ensemble, *(member.network for member in ensemble.members))
    )
    return Latencies(base_ms, members_ms, ensemble_ms)
