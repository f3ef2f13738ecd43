"""Run members by ONNX Runtime, each in its own session."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sensai.runtimes.implementations import RUNTIMES
from sensai.runtimes.onnx_session import OnnxRuntime, session_options

if TYPE_CHECKING:
    import numpy as np

    from sensai.runtimes.prepared import Prepared


@RUNTIMES.register("onnx-sessions", "ONNX Runtime with a session for each member", auto=True)
class OnnxSessions(OnnxRuntime):
    """Run each member in its own session. Members are dealt to threads by FLOPs; the caller is one of these."""

    def __init__(self, prepared: "Prepared", threads: int) -> None:
        from concurrent.futures import ThreadPoolExecutor

        from sensai.cluster.cores import deal

        super().__init__(prepared, threads)
        self._hands = deal([member.flops for member in prepared.members], threads)
        # By default ONNX Runtime's threads spin, which would keep cores from the other sessions.
        options = session_options(max(threads // len(prepared.members), 1), spin=False)
        for member in prepared.members:
            self._open(member.onnx, options)
        if len(self._hands) > 1:
            self._workers = self._closing.enter_context(ThreadPoolExecutor(len(self._hands) - 1, "sensai-member"))

    def _outputs(self, images: "np.ndarray") -> list["np.ndarray"]:
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
