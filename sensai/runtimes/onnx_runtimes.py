"""ONNX Runtime: the members as one graph, or a session each."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime
from onnx.compose import add_prefix

from sensai.cluster.cores import deal
from sensai.runtimes.export import INPUT
from sensai.runtimes.prepared import Prepared
from sensai.runtimes.runtime import Runtime

_PROVIDERS = ["CPUExecutionProvider"]


def _options(threads: int, *, spin: bool) -> onnxruntime.SessionOptions:
    """Nodes one after another, each on so many threads, which spin or sleep while they wait for more of the same image."""
    options = onnxruntime.SessionOptions()
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    # Small convolutions are dealt to threads in small parts, so that none waits long for one that started late.
    options.add_session_config_entry("session.dynamic_block_base", "4")
    # Longer than lies between two images that wait; then the cores are others', which by default they are much later.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "200")
    return options


class _OnnxRuntime(Runtime):
    """Sessions, which end with the runtime."""

    def __init__(self, prepared: Prepared, threads: int) -> None:
        super().__init__(prepared, threads)
        self._runs: list[Callable[[np.ndarray], list[np.ndarray]]] = []
        self._closing.callback(self._runs.clear)

    def _open(self, model: onnx.ModelProto, options: onnxruntime.SessionOptions) -> None:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=_PROVIDERS)
        names = [output.name for output in session.get_outputs()]
        self._runs.append(lambda images: session.run(names, {INPUT: images}))


class OnnxGraph(_OnnxRuntime):
    """All members in one graph and one session: a node at a time, on all threads."""

    def __init__(self, prepared: Prepared, threads: int) -> None:
        super().__init__(prepared, threads)
        self._open(merged([member.onnx for member in prepared.members]), self._session_options())

    def _session_options(self) -> onnxruntime.SessionOptions:
        return _options(self.threads, spin=True)

    def _outputs(self, images: np.ndarray) -> list[np.ndarray]:
        (run,) = self._runs
        return run(images)


class OnnxBranches(OnnxGraph):
    """All members in one graph and one session: as many nodes at a time as there are threads, each on one."""

    def _session_options(self) -> onnxruntime.SessionOptions:
        options = _options(1, spin=False)
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
        options.inter_op_num_threads = self.threads
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        return options


class OnnxSessions(_OnnxRuntime):
    """A session for each member, dealt to workers by FLOPs; the caller is one of them."""

    def __init__(self, prepared: Prepared, threads: int) -> None:
        super().__init__(prepared, threads)
        self._hands = deal([member.flops for member in prepared.members], threads)
        # Threads that spin, as they do by ONNX Runtime's default, would keep cores from the other sessions.
        options = _options(max(threads // len(prepared.members), 1), spin=False)
        for member in prepared.members:
            self._open(member.onnx, options)
        if len(self._hands) > 1:
            self._workers = self._closing.enter_context(ThreadPoolExecutor(len(self._hands) - 1, "sensai-member"))

    def _outputs(self, images: np.ndarray) -> list[np.ndarray]:
        outputs: list[np.ndarray] = [images] * len(self._runs)

        def play(hand: Sequence[int]) -> None:
            for number in hand:
                (outputs[number],) = self._runs[number](images)

        own, *others = self._hands
        playing = [self._workers.submit(play, hand) for hand in others]
        play(own)
        for each in playing:
            each.result()
        return outputs


def merged(models: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    """Models of one input as one model with all their outputs in their order."""
    whole, *rest = [add_prefix(model, f"m{number}_", rename_inputs=False) for number, model in enumerate(models)]
    for model in rest:
        for part in ("node", "initializer", "output", "value_info"):
            getattr(whole.graph, part).extend(getattr(model.graph, part))
    return whole
