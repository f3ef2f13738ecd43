"""A version whose members run in this process, on threads of their own."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import numpy as np
from joblib import cpu_count

from sensai.registry.registered import Registered
from sensai.serving.open_version import Answer, OpenVersion, Stopwatch, in_parts, milliseconds_of
from sensai.serving.protocol import WARM_UP, Content, render_answer


@dataclass(frozen=True)
class Threads:
    """The threads of a server, which all of its versions share.

    Attributes:
        requests: each reads a body, waits for the members, and combines their outputs.
        members: each runs one member at a time.
        cores: number of `members`.
    """

    requests: ThreadPoolExecutor
    members: ThreadPoolExecutor
    cores: int

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[Self]:
        """Yield the threads for all cores of this process; they end with the block, after what they work at."""
        cores = cpu_count()
        with (
            # One decodes while another waits for its members.
            ThreadPoolExecutor(2 * cores, "sensai-request") as requests,
            ThreadPoolExecutor(cores, "sensai-member") as members,
        ):
            yield cls(requests, members, cores)


class LocalVersion(OpenVersion):
    """A version in this process. The member that takes longest begins first, so that none of them runs alone at the end."""

    def __init__(self, registered: Registered, threads: Threads) -> None:
        """Open one session a member, and measure each.

        Raises:
            InputError: the files cannot be read, or are not those that were registered.
        """
        with registered.bundle() as bundle:
            super().__init__(registered.uri, bundle)
            count = len(bundle.manifest["members"])
            self._runs = [bundle.open_member(number, max(threads.cores // count, 1)) for number in range(count)]
        self._threads = threads
        times = milliseconds_of(self._runs, bundle)
        self.order = sorted(range(count), key=lambda number: -times[number])
        self._answer(WARM_UP)

    async def answer(self, content: Content) -> Answer:
        """Return the answer to a request. A single thread does all but the members, since each change of thread takes time."""
        return await asyncio.get_running_loop().run_in_executor(self._threads.requests, self._answer, content)

    def _answer(self, content: Content) -> Answer:
        stopwatch = Stopwatch()
        images = content.images(self.bundle)
        stopwatch.lap("decode")
        outputs = self.outputs(images)
        stopwatch.lap("members")
        text = render_answer(self.bundle.answer(outputs))
        stopwatch.lap("combine")
        return Answer(text, len(images), stopwatch)

    async def check(self) -> None:
        """Return at once: members of this process answer as long as it does."""

    def outputs(self, images: np.ndarray) -> list[np.ndarray]:
        """Return the outputs of each member, float32 (N, 1), (N, 1 + g) or (N, K)."""
        running = {number: self._threads.members.submit(in_parts, self._runs[number], images) for number in self.order}
        return [running[number].result() for number in range(len(running))]
