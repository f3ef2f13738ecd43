"""Ways to run all members on the same images: one runtime a file, found by name.

A runtime is a subclass of `Runtime` that is registered by its name. Opened, it returns the outputs of every member for
normalised images float32 (N, C, H, W), each float32 (N, 1), (N, 1 + g) or (N, K). They equal those of the networks as they
are: relative to max(1, largest output) they differ by 1e-5 at most, otherwise the runtime is never chosen. It keeps at most
so many threads busy as it is told, and what it starts ends with `close`. Its constructor takes:

| parameter | what it is |
| --- | --- |
| `prepared` | Prepared: the members, folded, as torch graphs and as ONNX models |
| `threads` | how many it may keep busy at once |

| trait | what it declares | default |
| --- | --- | --- |
| `device` | `cpu` or `cuda`: where it runs the members. One for `cuda` is refused where torch finds no GPU | `cpu` |
| `auto` | `runtime=auto` tries it on that device | False |
| `why_missing` | function that returns why this machine cannot run it, empty where it can | nothing is missing |

Imports without torch and ONNX Runtime, so that the command line is parsed at once: heavy imports stand inside the methods.
"""

from collections.abc import Callable
from typing import cast

from sensai.parts import Family


def _nothing() -> str:
    return ""


RUNTIMES = Family(
    "runtime",
    __name__,
    "sensai.runtimes",
    ("prepared", "threads"),
    {"device": "cpu", "auto": False, "why_missing": _nothing},
)


def candidates(device: str) -> tuple[str, ...]:
    """Return the names of the runtimes that `runtime=auto` tries on `cpu` or `cuda`."""
    traits = {name: RUNTIMES[name].traits for name in RUNTIMES}
    return tuple(name for name, each in traits.items() if each["auto"] and each["device"] == device)


def why_missing(name: str) -> str:
    """Return why this machine cannot run a runtime, empty where it can.

    Raises:
        InputError: there is none of that name.
    """
    traits = RUNTIMES[name].traits
    if traits["device"] == "cuda":
        import torch

        if not torch.cuda.is_available():
            return "this machine has no GPU that torch can use"
    return cast("Callable[[], str]", traits["why_missing"])()
