"""The ways to run all members on the same images: one runtime a file, found by name.

A runtime is a subclass of `Runtime`, registered by its name. It takes normalised images float32 (N, C, H, W), and returns the
outputs of every member, each float32 (N, 1), (N, 1 + g) or (N, K). They differ from those of the original networks by at most
1e-5, relative to max(1, largest output); otherwise the runtime is never chosen. It keeps at most `threads` threads busy, and
`close` ends all that it started. Its constructor takes:

| parameter | meaning |
| --- | --- |
| `prepared` | Prepared: the members, folded, as torch graphs and as ONNX models |
| `threads` | the most threads that it may keep busy |

| trait | meaning | default |
| --- | --- | --- |
| `device` | `cpu` or `cuda`: the device that runs the members. `cuda` is refused where torch finds no GPU | `cpu` |
| `auto` | `runtime=auto` tries it on that device | False |
| `why_missing` | function that returns why this machine cannot run it, empty where it can | nothing is missing |

This package imports neither torch nor ONNX Runtime, so that the command line is parsed at once. Heavy imports stand inside
the methods.
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
    """Return the reason why this machine cannot run a runtime, empty if it can.

    Raises:
        InputError: there is none of that name.
    """
    traits = RUNTIMES[name].traits
    if traits["device"] == "cuda":
        import torch

        if not torch.cuda.is_available():
            return "this machine has no GPU that torch can use"
    return cast("Callable[[], str]", traits["why_missing"])()
