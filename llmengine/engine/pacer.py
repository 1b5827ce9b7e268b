"""How many prompt tokens a step may compute while other streams wait for their next token."""

from __future__ import annotations

from llmengine.engine.costs import Costs
from llmengine.engine.threads import Threads

SMALLEST_CHUNK = 8  # tokens: prefill always moves on
FIRST_CHUNK = 32  # before anything was measured
_WEIGHT = 0.5  # of the newest measurement
_MARGIN = 0.9  # of the time that may be used


class Pacer:
    """Learns what steps cost and bounds prefill chunks so that none takes longer than `max_itl`.

    A step is taken to cost the time of its decoding rows plus a time per prefilled token.
    """

    def __init__(self, max_itl: float, largest: int, threads: Threads | None = None) -> None:
        """`max_itl` in seconds, `largest` in tokens; `threads` if their number may change."""
        self._max_itl = max_itl
        self._largest = largest
        self._decode = 0.0  # seconds of a step that only decodes
        self._per_token = 0.0  # seconds per prefilled token, 0 before the first measurement
        self.costs = Costs()
        self._threads = threads
        self._proven = FIRST_CHUNK  # a chunk is not grown to more than twice what was measured

    @property
    def seconds_per_token(self) -> float:
        """What a prefilled token costs, 0 before the first measurement."""
        return self._per_token

    def chunk(self, decoding: int) -> int:
        """Prompt tokens for the next step, in which `decoding` sequences get their next token."""
        if not decoding:
            return self._largest
        if not self._per_token:
            return min(FIRST_CHUNK, self._largest)
        fits = int((self._max_itl * _MARGIN - self._decode) / self._per_token)
        fits = min(fits, 2 * self._proven, self._largest)
        return max(fits - fits % SMALLEST_CHUNK, min(SMALLEST_CHUNK, self._largest))

    def observe(self, decoding: int, prefilled: int, seconds: float, drafted: int = 0) -> None:
        """Learn from a step of `decoding` decoded rows and `prefilled` prompt tokens.

        A step that only decodes may have `drafted` rows beside.
        """
        if not prefilled:
            self.costs.observe(decoding + drafted, seconds)
            if self._threads:
                self._threads.observe(decoding + drafted, seconds)
        if drafted:
            return
        if not prefilled:
            self._decode += _WEIGHT * (seconds - self._decode)
        elif prefilled >= SMALLEST_CHUNK:
            cost = max(seconds - (self._decode if decoding else 0.0), 1e-9) / prefilled
            weight = _WEIGHT if self._per_token else 1.0
            self._per_token += weight * (cost - self._per_token)
            if decoding:
                self._proven = max(prefilled, FIRST_CHUNK)
