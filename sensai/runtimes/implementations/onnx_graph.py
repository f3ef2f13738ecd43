"""Run members by ONNX Runtime, as one graph."""

from typing import TYPE_CHECKING

from sensai.runtimes.implementations import RUNTIMES
from sensai.runtimes.onnx_session import OnnxRuntime, merged, session_options

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime

    from sensai.runtimes.prepared import Prepared


@RUNTIMES.register("onnx-graph", "ONNX Runtime with all members in one graph, node by node on all threads", auto=True)
class OnnxGraph(OnnxRuntime):
    """Run all members as one graph: one node at a time, on all threads."""

    def __init__(self, prepared: "Prepared", threads: int) -> None:
        super().__init__(prepared, threads)
        self._open(merged([member.onnx for member in prepared.members]), self._session_options())

    def _session_options(self) -> "onnxruntime.SessionOptions":
        return session_options(self.threads, spin=True)

    def _outputs(self, images: "np.ndarray") -> list["np.ndarray"]:
        (run,) = self._runs
        return run(images)
