"""Every stage's parameters (`parameters`), and each entry point's configuration made of them (`entry_points`).

Imports neither torch nor MLflow, so that a wrong parameter is refused at once.
"""

from sensai.config.entry_points import (
    CONFIGS,
    ActivationsConfig,
    BaselineConfig,
    ContentionConfig,
    EntryPoint,
    EvaluateConfig,
    GroupConfig,
    GroupingStudyConfig,
    MainConfig,
    PredictConfig,
    PromoteConfig,
    PruneConfig,
    RegisterConfig,
    ReportConfig,
    RetrainConfig,
    ServeConfig,
    StageConfig,
    TuneConfig,
    describe_errors,
    refusal,
    unknown_parameter,
)
from sensai.config.parameters import Group, Prune, Retrain

__all__ = [
    "CONFIGS",
    "ActivationsConfig",
    "BaselineConfig",
    "ContentionConfig",
    "EntryPoint",
    "EvaluateConfig",
    "Group",
    "GroupConfig",
    "GroupingStudyConfig",
    "MainConfig",
    "PredictConfig",
    "PromoteConfig",
    "Prune",
    "PruneConfig",
    "RegisterConfig",
    "ReportConfig",
    "Retrain",
    "RetrainConfig",
    "ServeConfig",
    "StageConfig",
    "TuneConfig",
    "describe_errors",
    "refusal",
    "unknown_parameter",
]
