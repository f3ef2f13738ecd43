"""The stages that `main` runs, in the order of the data flow, and their part of its parameters."""

from typing import Any

from sensai.config import MainConfig, StageConfig
from sensai.pipeline.stage import Stage
from sensai.stages import activations, baseline, evaluate, group, prune, retrain

# The docstring of each lists what it logs. An ensemble and its yardsticks share the first two.
SHARED: tuple[Stage[Any], ...] = (baseline.stage, activations.stage)
PRUNE: Stage[Any] = prune.stage
OWN: tuple[Stage[Any], ...] = (group.stage, PRUNE, retrain.stage, evaluate.stage)
MEASURED = SHARED + OWN


def stage_config(config: MainConfig, stage: Stage[Any], **more: object) -> StageConfig:
    """Return the stage's part of the parameters, as a later stage would hand it upstream: both then stand on one run.

    `force` redoes every stage.
    """
    return config.upstream(stage.config).model_copy(update={"force": config.force, **more})
