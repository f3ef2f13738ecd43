"""Watch the training of members from outside, and end it after an epoch."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Watcher:
    """A watcher that lets all training run to its end; others derive from it."""

    def on_epoch(self, member: int, members: int, epoch: int, value: float) -> None:
        """Take note of an epoch of a member; called in a thread of its own.

        Args:
            member: its number.
            members: how many are trained.
            epoch: counted from 0, those before a further cut included.
            value: the validation metric that the member is judged by.
        """

    def why_end(self) -> BaseException | None:
        """Return the exception to raise after the current epoch, None to go on."""
        return None


_current: ContextVar[Watcher] = ContextVar("watcher", default=Watcher())  # noqa: B039  (it has no state)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Watch all training within the block."""
    token = _current.set(watcher)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Watcher:
    """Return the watcher of the innermost block."""
    return _current.get()
