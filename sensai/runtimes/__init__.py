"""One ensemble, several ways to run it, all with the same answers.

`prepared` folds and exports members once for all runtimes. `runtime` is their interface, and `implementations` has a file for
each. `choice` measures which one is the fastest here. `latency_comparison` compares base model and ensemble. `quantisation`
makes the integer variant. A base model runs as an ensemble of one member.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sensai.runtimes.choice import (
        TOLERANCE,
        Timing,
        check_runtime,
        fastest,
        in_turn,
        largest_error,
        measure,
        open_runtime,
    )
    from sensai.runtimes.implementations import RUNTIMES, candidates
    from sensai.runtimes.latency_comparison import Combine, Comparison, compare, compare_on_device
    from sensai.runtimes.prepared import Prepared, prepare, prepare_base
    from sensai.runtimes.quantisation import quantised
    from sensai.runtimes.runtime import Runtime

# Name -> its module, imported on first use: the command line needs the names of runtimes, but no torch.
_HOMES = {
    **dict.fromkeys(
        ("TOLERANCE", "Timing", "check_runtime", "fastest", "in_turn", "largest_error", "measure", "open_runtime"),
        "choice",
    ),
    **dict.fromkeys(("RUNTIMES", "candidates"), "implementations"),
    **dict.fromkeys(("Combine", "Comparison", "compare", "compare_on_device"), "latency_comparison"),
    **dict.fromkeys(("Prepared", "prepare", "prepare_base"), "prepared"),
    "quantised": "quantisation",
    "Runtime": "runtime",
}

__all__ = [
    "RUNTIMES",
    "TOLERANCE",
    "Combine",
    "Comparison",
    "Prepared",
    "Runtime",
    "Timing",
    "candidates",
    "check_runtime",
    "compare",
    "compare_on_device",
    "fastest",
    "in_turn",
    "largest_error",
    "measure",
    "open_runtime",
    "prepare",
    "prepare_base",
    "quantised",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
