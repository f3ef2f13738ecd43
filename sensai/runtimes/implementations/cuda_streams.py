"""Run members on a GPU, each on its own stream."""

import copy
from typing import TYPE_CHECKING

from sensai.runtimes.implementations import RUNTIMES
from sensai.runtimes.runtime import Runtime

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from sensai.runtimes.prepared import Prepared


@RUNTIMES.register("cuda-streams", "on a GPU a stream for each member", device="cuda", auto=True)
class CudaStreams(Runtime):
    """Run each member on its own stream of torch's current GPU, one operator at a time."""

    def __init__(self, prepared: "Prepared", threads: int) -> None:
        import torch

        super().__init__(prepared, threads)
        self._device = torch.device("cuda", torch.cuda.current_device())
        self._networks = [copy.deepcopy(member.graph).to(self._device) for member in prepared.members]
        self._closing.callback(self._networks.clear)

    def _outputs(self, images: "np.ndarray") -> list["np.ndarray"]:
        import torch

        with torch.inference_mode():
            outputs = self._run(self._prepared.laid_out(images))
            return [output.cpu().numpy() for output in outputs]

    def _run(self, images: "Tensor") -> list["Tensor"]:
        from sensai.ensemble.streams import side_by_side

        return side_by_side(self._networks, images.to(self._device))
