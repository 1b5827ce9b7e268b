"""What the engine's thread is told beside requests."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from msgspec import Struct


class Cancel(Struct, frozen=True):
    request_id: str


class Stop(Struct, frozen=True):
    pass


class Call:
    """Something to do on the engine's thread, for a thread that waits for it."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._done: Future[None] = Future()

    def run(self) -> None:
        try:
            self._function()
        except BaseException as error:
            self._done.set_exception(error)
        else:
            self._done.set_result(None)

    def wait(self) -> None:
        """Until it is done; raises what it raised."""
        self._done.result()
