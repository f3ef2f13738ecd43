"""The interface of all runtimes. Imports neither torch nor numpy."""

from abc import ABC, abstractmethod
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import numpy as np

    from sensai.runtimes.prepared import Prepared


class Runtime(ABC):
    """One way to run all members on the same raw images; called by one thread at a time.

    `close` ends all that it started. Leaving its context calls `close`.
    """

    def __init__(self, prepared: "Prepared", threads: int) -> None:
        """Open it.

        Args:
            prepared: the members to run.
            threads: the most that it may keep busy.
        """
        self._prepared = prepared
        self.threads = threads
        self._closing = ExitStack()
        self._closed = False

    def __call__(self, images: "np.ndarray") -> list["np.ndarray"]:
        """Return the outputs of each member, float32 (N, 1), (N, 1 + g) or (N, K), for raw images uint8 (N, H, W, C).

        Raises:
            ValueError: the images are not uint8.
            RuntimeError: it is closed.
        """
        if self._closed:
            raise RuntimeError(f"{type(self).__name__} is closed")
        return self._outputs(self._prepared.normalised(images))

    @abstractmethod
    def _outputs(self, images: "np.ndarray") -> list["np.ndarray"]:
        """Return the outputs of each member for normalised images float32 (N, C, H, W)."""

    def close(self) -> None:
        """End its threads."""
        self._closed = True
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
