"""Whether a thread gets on with its work, as others see it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pulse:
    """Kept by one thread, looked at from any."""

    def __init__(self) -> None:
        self._last: float | None = None  # None: there is nothing to do

    def beat(self) -> None:
        self._last = time.monotonic()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """While it waits for work."""
        self._last = None
        try:
            yield
        finally:
            self.beat()

    @property
    def age(self) -> float:
        """Seconds since the last beat; 0 while it rests."""
        last = self._last
        return 0.0 if last is None else time.monotonic() - last
