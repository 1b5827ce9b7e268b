"""A small model that reads along with requests and drafts what they say next."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

import numpy as np

from llmengine.engine.accuracy import Accuracy
from llmengine.engine.forecast import Forecast
from llmengine.engine.mix import Mix
from llmengine.engine.pacer import SMALLEST_CHUNK, Pacer
from llmengine.engine.readings import Readings
from llmengine.engine.sequence import Sequence
from llmengine.llama.context import Logits, Status

SHARE = 0.25  # of the time that a step may take: what reading takes at most
_SPREAD = 100  # tokens for which what was read is used, so that its time counts by a part
_FAILURES = 3  # in a row, after which it is asked no more
_FORGIVEN = 0.995
_PAUSE = 64  # steps in which it is not asked after it had no room or failed

log = logging.getLogger("llmengine.engine")


class DraftModel:
    """Drafts for several sequences at once, the likeliest token of each in turn."""

    def __init__(
        self, readings: Readings, pacer: Pacer, *, rows: int, vocabulary: int, ends: frozenset[int]
    ) -> None:
        """A batch has at most `rows` rows.

        `vocabulary` tokens are those that both models have, `ends` those that end a text.
        """
        self._readings = readings
        self._pacer = pacer
        self._rows = rows
        self._vocabulary = vocabulary
        self._ends = ends
        self._general = Accuracy()
        self._belief = 1.0  # in the time that it takes
        self._failures = self._pause = 0

    def ready(self) -> bool:
        """Whether it may be asked in this step."""
        self._pause = max(0, self._pause - 1)
        return not self._pause and self._failures < _FAILURES

    def forecast(self, sequence: Sequence) -> Forecast:
        found = Forecast(sequence, self._general)
        found.known = self._readings.known(found.slot, found.tokens)
        return found

    def seconds(self, sequences: int, depth: int, lag: int) -> float:
        """What it takes to draft `depth` tokens for each, after reading `lag` tokens in all."""
        reading = lag * self._pacer.seconds_per_token / _SPREAD
        return self._belief * (depth * self._pacer.costs.seconds(sequences) + reading)

    def forgive(self) -> None:
        """Think better of the time that it takes while it is not asked, so that it is again."""
        self._belief *= _FORGIVEN

    def draft(self, depths: Mapping[Forecast, int]) -> None:
        """Have new forecasts of up to so many tokens, where all before them could be read."""
        self._belief = 1.0
        for each in depths:
            each.begin()
        writing = self._read(sorted(depths, key=lambda each: each.lag))
        while self._readings.rows:
            found = self._compute()
            if found is None:
                break
            writing = [
                forecast
                for forecast, (token, chance) in zip(writing, found, strict=True)
                if forecast.add(token, chance)
                and token not in self._ends
                and len(forecast.drafted) < depths[forecast]
            ]
            self._write(writing)

    def _likeliest(self, row: Logits) -> tuple[int, float]:
        """A token and its chance; none at all where the logits are no numbers."""
        row = row[: self._vocabulary]
        token = int(row.argmax())
        total = float(np.exp(row - row[token]).sum())
        return token, 1 / total if total >= 1 else 0.0

    def _read(self, forecasts: list[Forecast]) -> list[Forecast]:
        """A batch of what is missing of each, as far as the time goes; those it completes."""
        count = len(forecasts)
        room = min(max(self._pacer.chunk(Mix(count)), 2 * count), self._rows)
        self._readings.begin()
        complete = []
        for each in forecasts:
            left = room - self._readings.rows
            if not left or np.frombuffer(each.tokens, np.int32).max() >= self._vocabulary:
                continue
            each.known = self._readings.read(each.slot, each.tokens, left)
            if not each.lag:
                complete.append(each)
        return complete

    def _write(self, forecasts: list[Forecast]) -> None:
        """A batch of the last drafted token of each."""
        self._readings.begin()
        for each in forecasts:
            self._readings.write(each.slot, each.drafted[-1])

    def _compute(self) -> list[tuple[int, float]] | None:
        """The likeliest tokens of the batch's outputs and their chances; None if it failed."""
        sequences, more = self._readings.sequences, self._readings.rows - self._readings.sequences
        started = time.perf_counter()
        status = self._readings.compute()
        if status is not Status.OK:
            self._give_up(status, sequences)
            return None
        self._failures = 0
        found = [self._likeliest(row) for row in self._readings.logits()]
        seconds = time.perf_counter() - started
        if more >= SMALLEST_CHUNK:
            self._pacer.prefilled(Mix(sequences, more), seconds)
        else:
            self._pacer.decoded(sequences, seconds, more)
        return found

    def _give_up(self, status: Status, sequences: int) -> None:
        """Go on without drafts, for a while at first."""
        self._pause = _PAUSE
        if status is Status.NO_ROOM:
            log.debug("the draft model's KV cache has no room for %d sequences", sequences)
            return
        self._failures += 1
        off = ": it is used no more" if self._failures == _FAILURES else ""
        log.warning("the draft model could not compute a batch%s", off)

    def reset(self) -> None:
        self._readings.reset()
