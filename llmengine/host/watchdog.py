"""Whether the engine's process still does something."""

from __future__ import annotations

import math
import time

LEAST = 2.0  # seconds: several beats of the engine
QUIET = 2.0  # seconds that mean nothing yet
TICK = 0.25  # seconds between two looks at most, or the time beyond does not count


class Watchdog:
    """Told of signs of life, and asked in short intervals whether they fail to come.

    The intervals are added up, each to its bound: when this process itself was stopped for a while
    (Ctrl-Z, a debugger), the engine is not to blame.
    """

    def __init__(self, limit: float) -> None:
        """`limit` in seconds; 0: wait for ever."""
        self._limit = max(limit, LEAST) if limit else math.inf
        self._silence = 0.0  # seconds
        self._stalled = 0.0
        self._looked = time.monotonic()

    @property
    def stalled(self) -> float:
        """Seconds that the engine has not got on, as far as it can be known."""
        found = self._stalled + self._silence
        return found if found > QUIET else 0.0

    def heard(self, stalled: float) -> None:
        self._silence, self._stalled = 0.0, stalled

    def look(self) -> str:
        """What is wrong, in words; empty if nothing is."""
        now = time.monotonic()
        self._silence += min(now - self._looked, 2 * TICK)
        self._looked = now
        if self._silence > self._limit:
            return f"gave no sign of life for {self._silence:.0f} s"
        if self._stalled > self._limit:
            return f"has been in one step for {self._stalled:.0f} s"
        return ""
