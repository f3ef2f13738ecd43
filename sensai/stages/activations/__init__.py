"""activations: Measure per class and channel how often it is zero, in one pass over the training split.

Logs images_per_s, overhead, the statistics and a class-similarity heatmap.
"""

import json
from typing import TYPE_CHECKING

from sensai.config import ActivationsConfig
from sensai.pipeline.closing import Findings, kept_whole, sentence
from sensai.pipeline.context import Context
from sensai.pipeline.stage import Stage
from sensai.stages.baseline import stage as baseline_stage
from sensai.tracking import Store
from sensai.tracking.artifact_names import SITES, STATISTICS

if TYPE_CHECKING:
    from sensai.activations import Statistics


def _execute(config: ActivationsConfig, context: Context) -> None:
    from sensai.stages.activations.activations_execution import execute

    execute(config, context)


def load(store: Store, run_id: str) -> "Statistics":
    """Return the statistics of a run."""
    from sensai.activations import load_statistics

    with store.downloaded(run_id, STATISTICS) as file:
        return load_statistics(file)


def _title(config: ActivationsConfig) -> str:
    return "with a backward pass" if config.needs_backward else ""


def found(store: Store, run_id: str) -> Findings:
    """Return what a run found."""
    with store.downloaded(run_id, SITES) as file:
        described = json.loads(file.read_text())
    sites = described["sites"].values()
    channels = sum(site["channels"] for site in sites)
    speed = sentence(store.metrics_of(run_id), "{images_per_s:count} images/s")
    facts = [f"{channels:,} removable channels in {len(sites)} sites{', ' * bool(speed)}{speed}"]
    return Findings([*facts, *kept_whole(described["kept_whole"])], f"sensai group --from_run {run_id}")


stage = Stage(
    version=3,
    config=ActivationsConfig,
    previous=baseline_stage,
    execute=_execute,
    title=_title,
    found=found,
    reads=("train",),
)


run = stage.run
