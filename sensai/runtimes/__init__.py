"""One ensemble, several ways to run it, all with the same answers.

`prepared` folds and exports members once for all runtimes, `runtime` is their interface, `choice` measures which is the
fastest here, `comparison` sets base model and ensemble side by side, `quantised` makes the integer variant. A base model runs
as the ensemble of one member that it is.
"""

from sensai.runtimes.choice import (
    CANDIDATES,
    GPU_CANDIDATES,
    RUNTIMES,
    TOLERANCE,
    Timing,
    check_runtime,
    fastest,
    in_turn,
    largest_error,
    measure,
    open_runtime,
)
from sensai.runtimes.latency_comparison import Combine, Comparison, compare
from sensai.runtimes.prepared import Prepared, prepare, prepare_base
from sensai.runtimes.quantised import quantised
from sensai.runtimes.runtime import Runtime

__all__ = [
    "CANDIDATES",
    "GPU_CANDIDATES",
    "RUNTIMES",
    "TOLERANCE",
    "Combine",
    "Comparison",
    "Prepared",
    "Runtime",
    "Timing",
    "check_runtime",
    "compare",
    "fastest",
    "in_turn",
    "largest_error",
    "measure",
    "open_runtime",
    "prepare",
    "prepare_base",
    "quantised",
]
