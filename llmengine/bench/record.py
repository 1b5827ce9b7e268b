"""One request to a server, and when its answer came."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Record:
    """Times are seconds of one clock."""

    part: str  # which of a workload's requests it is one of
    started: float
    ended: float = 0.0
    arrivals: list[float] = field(default_factory=list)  # of each chunk with text
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0  # as many as chunks, where the server does not count
    counted: bool = False  # whether the server did
    finish_reason: str = ""
    text: str = ""
    error: str = ""
    refused: bool = False  # with 429 or 503: the server had no room

    @property
    def completed(self) -> bool:
        return not self.error and bool(self.arrivals)

    @property
    def ttft(self) -> float:
        """Time to first token."""
        return self.arrivals[0] - self.started

    @property
    def e2el(self) -> float:
        """End-to-end latency: until the last chunk with text."""
        return self.arrivals[-1] - self.started

    @property
    def tpot(self) -> float | None:
        """Time per output token after the first; None for a single one."""
        if self.output_tokens < 2:
            return None
        return (self.e2el - self.ttft) / (self.output_tokens - 1)

    @property
    def itl(self) -> Sequence[float]:
        """Inter-token latencies: the gaps between chunks."""
        return [later - earlier for earlier, later in itertools.pairwise(self.arrivals)]
