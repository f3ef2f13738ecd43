"""torch itself, eager or compiled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from sensai.runtimes.export import Together
from sensai.runtimes.prepared import Prepared
from sensai.runtimes.runtime import Runtime


class Torch(Runtime):
    """Operators one after another, member by member, each on all threads."""

    def __init__(self, prepared: Prepared, threads: int) -> None:
        super().__init__(prepared, threads)
        self._run: Callable[[Tensor], list[Tensor]] = Together([member.graph for member in prepared.members])

    def _outputs(self, images: np.ndarray) -> list[np.ndarray]:
        tensor = self._prepared.laid_out(images)
        with _threads(self.threads), torch.inference_mode():
            return [output.numpy() for output in self._run(tensor)]


class TorchCompiled(Torch):
    """All members compiled as one; weights are constants in the layout that their kernels ask for."""

    def __init__(self, prepared: Prepared, threads: int) -> None:
        super().__init__(prepared, threads)
        self._run = torch.compile(self._run, fullgraph=True, options={"freezing": True})


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
