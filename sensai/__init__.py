"""sensAI: class-parallel ensembles of pruned members, one per class or group of classes.

In Python, five verbs: `score`, `group`, `prune`, `retrain`, `evaluate`. Importing this package loads neither torch nor MLflow.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sensai.api.evaluations import Evaluation, evaluate
    from sensai.api.groupings import Groups, group
    from sensai.api.live_ensemble import Ensemble, load, save
    from sensai.api.logged_versions import LoggedVersion, log
    from sensai.api.pruning_verb import prune
    from sensai.api.retraining_verb import retrain
    from sensai.api.scores import ChannelStatistics, score

__version__ = "0.2.0"

# Name -> its module, imported on first use.
_HOMES = {
    "ChannelStatistics": "scores",
    "Ensemble": "live_ensemble",
    "Evaluation": "evaluations",
    "Groups": "groupings",
    "LoggedVersion": "logged_versions",
    "evaluate": "evaluations",
    "group": "groupings",
    "load": "live_ensemble",
    "log": "logged_versions",
    "prune": "pruning_verb",
    "retrain": "retraining_verb",
    "save": "live_ensemble",
    "score": "scores",
}

__all__ = [
    "ChannelStatistics",
    "Ensemble",
    "Evaluation",
    "Groups",
    "LoggedVersion",
    "evaluate",
    "group",
    "load",
    "log",
    "prune",
    "retrain",
    "save",
    "score",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.api.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
