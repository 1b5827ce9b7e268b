"""How many prompt tokens a step may compute while other streams wait for their next token."""

from __future__ import annotations

import statistics
from collections import deque

from llmengine.engine.costs import Costs
from llmengine.engine.mix import Mix
from llmengine.engine.threads import Threads
from llmengine.llama.attention import Attention

SMALLEST_CHUNK = 8  # tokens: prefill always moves on
FIRST_CHUNK = 32  # before anything was measured
_WEIGHT = 0.5  # of the newest step that only decoded
_KEPT = 3  # costs: one step that was held up says nothing, two do
_MARGIN = 0.9  # of the time that may be used
_WHOLE = 1.1  # for a whole tile, where fewer rows would take nearly as long


class Pacer:
    """Learns what steps cost and bounds prefill chunks so that none takes longer than `max_itl`.

    A step is taken to cost the time of its decoding rows plus a time per prefilled token, more
    for one that has many before it. One that fills a tile of attention may take a tenth longer.
    """

    def __init__(
        self,
        max_itl: float,
        largest: int,
        threads: Threads | None = None,
        attention: Attention | None = None,
    ) -> None:
        """`max_itl` in seconds, `largest` in tokens; `threads` if their number may change."""
        self._max_itl = max_itl
        self._largest = largest
        self._attention = attention or Attention()
        self._decode = 0.0  # seconds of a step that only decodes
        self._latest = deque[float](maxlen=_KEPT)  # what a token cost, with none before it
        self._per_token = 0.0  # seconds of that, 0 before the first step
        self._work = 1.0  # of the tokens of the latest prompt, on average, beside one of those
        self.costs = Costs()
        self._threads = threads
        self._proven = FIRST_CHUNK  # the largest that was measured: none is over twice as large

    @property
    def seconds_per_token(self) -> float:
        """What a prefilled token costs, 0 before the first measurement."""
        return self._per_token * self._work

    def chunk(self, mix: Mix) -> int:
        """How many of the mix' prompt tokens to compute beside the streams' next ones."""
        if not mix.decoding:
            return self._largest
        if not self._per_token:
            return min(FIRST_CHUNK, self._largest)
        part, tiles = self._part(mix), self._tiles(mix)
        smallest = min(SMALLEST_CHUNK, self._largest)
        if not (part and tiles):
            return part or tiles or smallest
        return max(part, tiles, key=lambda chunk: chunk / self._seconds(mix, chunk))

    def _part(self, mix: Mix) -> int:
        """The most tokens that the time holds, short of a tile; 0: there is none for a chunk."""
        most = min(2 * self._proven, self._largest)
        if self._attention.tile:
            most = min(most, self._attention.tile - 1 - mix.decoding)
        for chunk in range(most - most % SMALLEST_CHUNK, 0, -SMALLEST_CHUNK):
            if self._seconds(mix, chunk) <= _MARGIN * self._max_itl:
                return chunk
        return 0

    def _tiles(self, mix: Mix) -> int:
        """The most tokens that fill tiles, or end the prompts, if the time holds any."""
        tile, ending = self._attention.tile, mix.decoding + mix.prompt
        most = min(2 * (mix.decoding + self._proven), mix.decoding + self._largest, ending)
        if not tile or most < tile:
            return 0
        wholes = range(most - most % tile, mix.decoding, -tile)
        for rows in (most, *wholes) if most == ending else wholes:
            if self._seconds(mix, rows - mix.decoding) <= _WHOLE * self._max_itl:
                return rows - mix.decoding
        return 0

    def _seconds(self, mix: Mix, prompt: int) -> float:
        """What a step with `prompt` of the mix' prompt tokens is expected to take."""
        return self._decode + self._per_token * mix.work(prompt, self._attention)

    def prepare(self, *, prompts: bool) -> None:
        """What has to be done before a step, which computes prompts or only decodes."""
        if self._threads:
            self._threads.prepare(prompts=prompts)

    def decoded(self, rows: int, seconds: float, drafted: int = 0) -> None:
        """Learn from a step of so many rows for streams, and `drafted` ones beside them."""
        self.costs.observe(rows + drafted, seconds)
        if self._threads:
            self._threads.observe(rows + drafted, seconds)
        if not drafted:
            self._decode += _WEIGHT * (seconds - self._decode)

    def prefilled(self, mix: Mix, seconds: float) -> None:
        """Learn from a step that computed all of a mix."""
        if mix.prompt < SMALLEST_CHUNK:
            return
        if mix.decoding:
            self._proven = max(mix.prompt, self._proven)
        work = mix.work(mix.prompt, self._attention)
        if work < mix.prompt:
            return  # a tile that many streams with one prefix gain by tells little of a prompt
        self._latest.append(max(seconds - (self._decode if mix.decoding else 0.0), 1e-9) / work)
        self._per_token = statistics.median(self._latest)
        self._work = work / mix.prompt
