"""Members and how their outputs combine into one answer.

`pruned_ensemble` holds and stores them, `building` makes them of a base model and plans, `combiners` has the ways to turn
their outputs into class probabilities, `calibration` fits these.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sensai.ensemble.pruned_ensemble import (
        MANIFEST,
        Ensemble,
        Member,
        class_scores,
        combine,
        load_ensemble,
        save_ensemble,
    )

__all__ = [
    "MANIFEST",
    "Ensemble",
    "Member",
    "class_scores",
    "combine",
    "load_ensemble",
    "save_ensemble",
]


def __getattr__(name: str) -> object:
    # The names of combiners are needed before torch is, so the networks are imported when one asks for them.
    if name in __all__:
        return getattr(import_module(f"{__name__}.pruned_ensemble"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
