"""How soon there is a place for those that found none."""

from __future__ import annotations

WEIGHT = 0.2  # of the latest interval in the mean
MOST = 600.0  # seconds that anybody is told


class Turnover:
    """Learns how often a request ends while others wait. Its caller holds a lock."""

    def __init__(self, now: float) -> None:
        self._interval = 1.0  # seconds between two ends, until more is known
        self._last = now
        self._refused = 0  # since there was a place for each of them

    def began(self, now: float) -> None:
        """Note a request that came while there was none: idle time is no interval."""
        self._last = now

    def ended(self, count: int, now: float) -> None:
        for _ in range(count):
            interval = (now - self._last) / count
            self._interval += WEIGHT * (interval - self._interval)
        self._last = now
        self._refused = max(0, self._refused - count)

    def refuse(self, now: float) -> float:
        """Seconds until one more has a place, when those refused before have theirs."""
        self._refused += 1
        return min(MOST, max(0.0, self._refused * self._interval - (now - self._last)))
