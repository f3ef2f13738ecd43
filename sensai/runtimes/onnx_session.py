"""The parts that all runtimes on ONNX Runtime share. Imports it, and onnx, only when a session is opened."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sensai.runtimes.runtime import Runtime

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import onnxruntime

    from sensai.runtimes.prepared import Prepared

_PROVIDERS = ["CPUExecutionProvider"]


def session_options(threads: int, *, spin: bool) -> "onnxruntime.SessionOptions":
    """Return the options of a session that runs one node at a time, each on `threads` threads.

    Args:
        threads: of each node.
        spin: threads spin while they wait for the next node; otherwise they sleep.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    # Small parts of a convolution keep threads from waiting long for one that started late.
    options.add_session_config_entry("session.dynamic_block_base", "4")
    # Waiting images follow each other within 200 microseconds. Longer spinning, the default, takes cores from others.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "200")
    return options


class OnnxRuntime(Runtime):
    """A runtime that owns sessions of ONNX Runtime, and ends them."""

    def __init__(self, prepared: "Prepared", threads: int) -> None:
        super().__init__(prepared, threads)
        self._runs: list[Callable[[np.ndarray], list[np.ndarray]]] = []
        self._closing.callback(self._runs.clear)

    def _open(self, model: "onnx.ModelProto", options: "onnxruntime.SessionOptions") -> None:
        import onnxruntime

        from sensai.runtimes.export import INPUT

        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=_PROVIDERS)
        names = [output.name for output in session.get_outputs()]
        self._runs.append(lambda images: session.run(names, {INPUT: images}))


def merged(models: "Sequence[onnx.ModelProto]") -> "onnx.ModelProto":
    """Merge models of the same input into one model; return it with all their outputs in order."""
    from onnx.compose import add_prefix

    whole, *rest = [add_prefix(model, f"m{number}_", rename_inputs=False) for number, model in enumerate(models)]
    for model in rest:
        for part in ("node", "initializer", "output", "value_info"):
            getattr(whole.graph, part).extend(getattr(model.graph, part))
    return whole
