"""What engines count, one after the other."""

from __future__ import annotations

from msgspec.structs import replace

from llmengine.core import Stats
from llmengine.host.journal import Journal
from llmengine.metrics.engine import COUNTERS

_OWN = {name: 0 for name in COUNTERS if name != "requests"}  # what an engine counts from zero


class Counters:
    """The counters of an engine, which go on where those of a lost one ended."""

    def __init__(self) -> None:
        self._latest = Stats()  # that the engine of now has told
        self._before: dict[str, float] = dict(_OWN)

    def told(self, stats: Stats | None) -> None:
        if stats:
            # What the process uses is told less often.
            self._latest = replace(stats, process=stats.process or self._latest.process)

    def lost(self) -> None:
        """The engine of now is gone."""
        self._before = self._sums()
        self._latest = replace(self._latest, **_OWN)

    def total(self, journal: Journal) -> Stats:
        running = min(self._latest.running, len(journal.active))
        return replace(
            self._latest,
            **self._sums(),
            requests=journal.accepted,
            finished=dict(journal.finished),
            running=running,
            waiting=len(journal.active) - running,
        )

    def _sums(self) -> dict[str, float]:
        return {name: count + getattr(self._latest, name) for name, count in self._before.items()}
