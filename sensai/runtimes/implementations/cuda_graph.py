"""Run members on a GPU as one CUDA graph."""

from typing import TYPE_CHECKING

from sensai.runtimes.implementations import RUNTIMES
from sensai.runtimes.implementations.cuda_streams import CudaStreams

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sensai.runtimes.prepared import Prepared

# Calls before a capture: in the first, libraries make handles and workspaces, which do not belong in a graph.
_WARM_UPS = 3


@RUNTIMES.register("cuda-graph", "on a GPU all members captured as one graph", device="cuda", auto=True)
class CudaGraph(CudaStreams):
    """Run the streams of all members as one CUDA graph, captured once for each shape of images."""

    def __init__(self, prepared: "Prepared", threads: int) -> None:
        import torch

        super().__init__(prepared, threads)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._images = torch.empty(0)
        self._captured: list[Tensor] = []
        self._closing.callback(self._forget)

    def _forget(self) -> None:
        self._graph, self._captured = None, []

    def _run(self, images: "Tensor") -> list["Tensor"]:
        if self._graph is None or images.shape != self._images.shape:
            self._graph = self._capture(images)
        self._images.copy_(images)
        self._graph.replay()
        return self._captured

    def _capture(self, images: "Tensor") -> "torch.cuda.CUDAGraph":
        import torch

        from sensai.ensemble.streams import side_by_side

        self._forget()
        self._images = images.to(self._device)
        for _ in range(_WARM_UPS):
            side_by_side(self._networks, self._images)
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._captured = side_by_side(self._networks, self._images)
        return graph
