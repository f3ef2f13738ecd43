"""Every parameter, declared once (`sections`), and each entry point's configuration made of them (`entry_points`).

A declaration has the type, the default, the help and a `Usage`: when the parameter matters, to which stages, and whether
`tune` searches it. Fingerprints, inheritance, the space of `tune`, `--help`, MLproject and the reference page follow from it.
Imports neither torch nor MLflow, so that a wrong parameter is refused at once.
"""

from sensai.config.entry_point import EntryPoint
from sensai.config.entry_points import (
    CONFIGS,
    ActivationsConfig,
    BaselineConfig,
    ContentionConfig,
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
)
from sensai.config.refusals import describe_errors, refusal, unknown_parameter
from sensai.config.sections.cut import Group, Prune
from sensai.config.sections.trained import Retrain

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
