"""How long to wait before a thing that failed is tried again."""

from __future__ import annotations

LONGEST = 30.0  # seconds


class Backoff:
    """At once after the first failure, then twice as long each time."""

    def __init__(self) -> None:
        self._failures = 0  # in a row

    @property
    def pause(self) -> float:
        """Seconds."""
        return min(LONGEST, 0.25 * 2.0**self._failures) if self._failures > 1 else 0.0

    def failed(self) -> None:
        self._failures += 1

    def worked(self) -> None:
        self._failures = 0
