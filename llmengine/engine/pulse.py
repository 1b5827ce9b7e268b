"""Whether a thread gets on with its work, as others see it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Pulse:
    """Kept by one thread, looked at from any."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` says in seconds what counts as time."""
        self._clock = clock
        self._last: float | None = None  # None: there is nothing to do
        self._rest: tuple[float, float | None] = 0.0, None  # past, and since when there is one

    def beat(self) -> None:
        self._last = self._clock()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """While it waits for work."""
        past, began = self._rest[0], self._clock()
        self._last, self._rest = None, (past, began)
        try:
            yield
        finally:
            self._rest = past + self._clock() - began, None
            self.beat()

    @property
    def age(self) -> float:
        """Seconds since the last beat; 0 while it rests."""
        last = self._last
        return 0.0 if last is None else self._clock() - last

    def rested(self) -> float:
        """Seconds in which it had nothing to do so far: a clock for those who then have theirs."""
        past, began = self._rest
        return past if began is None else past + self._clock() - began
