"""What the runtimes on ONNX Runtime share. Imports it, and onnx, only when a session is opened."""

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
    """Return options by which nodes run one after another, each on so many threads.

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
    # Small convolutions are dealt to threads in small parts, so that none waits long for one that started late.
    options.add_session_config_entry("session.dynamic_block_base", "4")
    # Waiting images follow each other within 200 microseconds. Threads that spin longer, as by default, take cores from others.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "200")
    return options


class OnnxRuntime(Runtime):
    """Sessions of ONNX Runtime, which end with the runtime."""

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
    """Return models of one input as one model with all their outputs in their order."""
    from onnx.compose import add_prefix

    whole, *rest = [add_prefix(model, f"m{number}_", rename_inputs=False) for number, model in enumerate(models)]
    for model in rest:
        for part in ("node", "initializer", "output", "value_info"):
            getattr(whole.graph, part).extend(getattr(model.graph, part))
    return whole
