"""Who looks on while members are retrained, and may have that end after an epoch."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Watcher:
    """Looks on and lets everything run to its end."""

    def on_epoch(self, member: int, members: int, epoch: int, value: float) -> None:
        """Told of every epoch of every member, in a thread of its own.

        Args:
            member: its number.
            members: how many are trained.
            epoch: counted from 0, those before a further cut included.
            value: the validation metric that the member is judged by.
        """

    def why_end(self) -> BaseException | None:
        """What to raise after the current epoch; None where training goes on."""
        return None


_current: ContextVar[Watcher] = ContextVar("watcher", default=Watcher())  # noqa: B039  (it has no state)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Whatever is retrained within the block is watched."""
    token = _current.set(watcher)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Watcher:
    """The watcher of the innermost block."""
    return _current.get()
