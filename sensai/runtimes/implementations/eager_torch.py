"""Run members by torch, one operator at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sensai.runtimes.implementations import RUNTIMES
from sensai.runtimes.runtime import Runtime

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from sensai.runtimes.prepared import Prepared


@RUNTIMES.register("torch", "operators one after another, member by member, each on all threads", auto=True)
class Torch(Runtime):
    """Run members one after another, each operator on all threads."""

    def __init__(self, prepared: "Prepared", threads: int) -> None:
        from sensai.runtimes.export import Together

        super().__init__(prepared, threads)
        self._run: Callable[[Tensor], list[Tensor]] = Together([member.graph for member in prepared.members])

    def _outputs(self, images: "np.ndarray") -> list["np.ndarray"]:
        import torch

        tensor = self._prepared.laid_out(images)
        with _threads(self.threads), torch.inference_mode():
            return [output.numpy() for output in self._run(tensor)]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
