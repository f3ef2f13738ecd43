"""The parameters of every stage: of the pipeline, of what is measured beside it, and of what is done with its ensembles."""

from sensai.stages.configs.parameters.pipeline import (
    Activations,
    Baseline,
    Common,
    Evaluate,
    FromRun,
    Group,
    Main,
    Prune,
    Register,
    Report,
    Retrain,
)
from sensai.stages.configs.parameters.registered import Predict, Promote, Serve
from sensai.stages.configs.parameters.studies import Contention, GroupingStudy, Tune

__all__ = [
    "Activations",
    "Baseline",
    "Common",
    "Contention",
    "Evaluate",
    "FromRun",
    "Group",
    "GroupingStudy",
    "Main",
    "Predict",
    "Promote",
    "Prune",
    "Register",
    "Report",
    "Retrain",
    "Serve",
    "Tune",
]
