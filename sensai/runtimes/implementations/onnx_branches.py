"""Run members by ONNX Runtime, as parallel branches of one graph."""

from typing import TYPE_CHECKING

from sensai.runtimes.implementations import RUNTIMES
from sensai.runtimes.implementations.onnx_graph import OnnxGraph
from sensai.runtimes.onnx_session import session_options

if TYPE_CHECKING:
    import onnxruntime


@RUNTIMES.register(
    "onnx-branches", "ONNX Runtime with all members in one graph, a node at a time on each thread", auto=True
)
class OnnxBranches(OnnxGraph):
    """Run all members as one graph: as many nodes at once as there are threads, each on one thread."""

    def _session_options(self) -> "onnxruntime.SessionOptions":
        import onnxruntime

        options = session_options(1, spin=False)
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
        options.inter_op_num_threads = self.threads
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        return options
