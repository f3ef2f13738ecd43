"""The parameters of every stage: of the pipeline, of what is measured beside it, and of what is done with its ensembles."""

from sensai.config.parameters.pipeline import (
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
from sensai.config.parameters.registered import Predict, Promote, Serve
from sensai.config.parameters.studies import Contention, GroupingStudy, Tune

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
