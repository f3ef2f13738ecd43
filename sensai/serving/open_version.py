"""One version of an ensemble that answers requests, wherever its members run."""

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from sensai.registry.bundle_reader import Run
from sensai.registry.pyfunc_model import Bundle
from sensai.serving.protocol import Content

# More images at once are answered in parts, since their activations would fill the memory.
_IMAGES_AT_ONCE = 64
_WARM_UPS, _TIMED_CALLS = 2, 5


@dataclass
class Stopwatch:
    """The milliseconds of the parts of one answer, by name."""

    milliseconds: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.perf_counter)

    def lap(self, name: str) -> None:
        """Record the time since the last call, or since this was made."""
        now = time.perf_counter()
        self.milliseconds[name] = (now - self._since) * 1e3
        self._since = now

    def header(self) -> str:
        """Return the times as the value of the header Server-Timing."""
        return ", ".join(f"{name};dur={value:.3f}" for name, value in self.milliseconds.items())


@dataclass(frozen=True)
class Answer:
    """A response with predictions.

    Attributes:
        text: its body, JSON.
        images: number of images.
        stopwatch: the times of `decode`, `members` and `combine`.
    """

    text: str
    images: int
    stopwatch: Stopwatch


class OpenVersion(ABC):
    """One version, ready to answer. A request is answered by one of them, from its first byte to its last.

    Attributes:
        name: the URI of the version.
        bundle: its manifest and how its outputs combine.
    """

    def __init__(self, name: str, bundle: Bundle) -> None:
        self.name = name
        self.bundle = bundle

    @abstractmethod
    async def answer(self, content: Content) -> Answer:
        """Return the answer to a request; nothing that takes long runs on the event loop.

        Raises:
            MlflowException: the content is refused, or members do not answer.
        """

    @abstractmethod
    async def check(self) -> None:
        """Raise an error if members do not answer.

        Raises:
            MlflowException: they do not.
        """


def in_parts(run: Run, images: np.ndarray) -> np.ndarray:
    """Return the outputs of a member for any number of images, at most 64 at once."""
    if len(images) <= _IMAGES_AT_ONCE:
        return run(images)
    starts = range(0, len(images), _IMAGES_AT_ONCE)
    return np.concatenate([run(images[start : start + _IMAGES_AT_ONCE]) for start in starts])


def milliseconds_of(runs: list[Run], bundle: Bundle) -> list[float]:
    """Measure each open member alone with one black image; return the medians in milliseconds."""
    image = np.zeros((1, *bundle.image_shape), bundle.manifest["dtype"])
    return [_median_ms(run, image) for run in runs]


def _median_ms(run: Run, image: np.ndarray) -> float:
    seconds = []
    for _ in range(_WARM_UPS + _TIMED_CALLS):
        start = time.perf_counter()
        run(image)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[_WARM_UPS:])) * 1e3
