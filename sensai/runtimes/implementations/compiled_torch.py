"""Run members by torch.compile."""

import shutil
from typing import TYPE_CHECKING

from sensai.runtimes.implementations import RUNTIMES
from sensai.runtimes.implementations.eager_torch import Torch

if TYPE_CHECKING:
    from sensai.runtimes.prepared import Prepared

_COMPILERS = ("g++", "clang++")


def _no_compiler() -> str:
    return "" if any(map(shutil.which, _COMPILERS)) else f"no C++ compiler ({' or '.join(_COMPILERS)}) is installed"


# A large ensemble takes minutes to compile, so `auto` does not try it.
@RUNTIMES.register("torch-compiled", "all members compiled as one, which takes minutes", why_missing=_no_compiler)
class TorchCompiled(Torch):
    """Run all members, compiled as one; weights are constants in the layout of their kernels."""

    def __init__(self, prepared: "Prepared", threads: int) -> None:
        import torch

        super().__init__(prepared, threads)
        self._run = torch.compile(self._run, fullgraph=True, options={"freezing": True})
