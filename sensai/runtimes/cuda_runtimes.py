"""A GPU: members side by side on streams of their own."""

import copy

import numpy as np
import torch
from torch import Tensor

from sensai.ensemble.streams import side_by_side
from sensai.runtimes.prepared import Prepared
from sensai.runtimes.runtime import Runtime

# Calls before a capture: libraries make their handles and workspaces in the first, which a graph must not contain.
_WARM_UPS = 3


class CudaStreams(Runtime):
    """Each member on its own stream of torch's current GPU, launched operator by operator."""

    def __init__(self, prepared: Prepared, threads: int) -> None:
        super().__init__(prepared, threads)
        self._device = torch.device("cuda", torch.cuda.current_device())
        self._networks = [copy.deepcopy(member.graph).to(self._device) for member in prepared.members]
        self._closing.callback(self._networks.clear)

    def _outputs(self, images: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            outputs = self._run(self._prepared.laid_out(images))
            return [output.cpu().numpy() for output in outputs]

    def _run(self, images: Tensor) -> list[Tensor]:
        return side_by_side(self._networks, images.to(self._device))


class CudaGraph(CudaStreams):
    """The same, captured once for a shape of images as one CUDA graph, which is then launched as a whole."""

    def __init__(self, prepared: Prepared, threads: int) -> None:
        super().__init__(prepared, threads)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._images = torch.empty(0)
        self._captured: list[Tensor] = []
        self._closing.callback(self._forget)

    def _forget(self) -> None:
        self._graph, self._captured = None, []

    def _run(self, images: Tensor) -> list[Tensor]:
        if self._graph is None or images.shape != self._images.shape:
            self._graph = self._capture(images)
        self._images.copy_(images)
        self._graph.replay()
        return self._captured

    def _capture(self, images: Tensor) -> torch.cuda.CUDAGraph:
        self._forget()
        self._images = images.to(self._device)
        for _ in range(_WARM_UPS):
            side_by_side(self._networks, self._images)
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._captured = side_by_side(self._networks, self._images)
        return graph
