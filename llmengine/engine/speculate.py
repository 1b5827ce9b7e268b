"""Drafts for the sequences of a step, while they are expected to pay."""

from __future__ import annotations

import math
from collections import Counter

from llmengine.engine.costs import Costs
from llmengine.engine.drafter import Drafter
from llmengine.engine.sequence import Sequence
from llmengine.engine.work import Work

_ROUND = 4  # llama.cpp multiplies repacked weights by so many rows at once
_MARGIN = 0.03  # what a draft has to bring for each sequence of the step


class Speculator:
    """Adds rows to a step that guess what comes; the sampler keeps those that it would have chosen.

    A guess costs all sequences of the step time and brings one of them tokens. Each one's speed
    counts the same: the sum of its logarithms is what is made larger. So one sequence alone is
    guessed for boldly, and one of many only if it is all but sure.
    """

    def __init__(self, costs: Costs, longest: int, max_itl: float) -> None:
        """A draft has at most `longest` tokens; others wait `max_itl` seconds for it at most."""
        self._costs = costs
        self._longest = longest
        self._max_itl = max_itl

    def draft(self, step: list[Work], room: int) -> None:
        """Draft for a step of decoding sequences, `room` rows at most."""
        offers = []  # what one more row brings, and to whom
        for index, work in enumerate(step):
            tokens = 1.0
            for chance in self._odds(work.sequence):
                offers.append((math.log1p(chance / tokens), index))
                tokens += chance
        if len(offers) < _ROUND - 1:
            return
        offers.sort(reverse=True)
        count = self._count(len(step), [gain for gain, _ in offers[:room]])
        for index, tokens in Counter(index for _, index in offers[:count]).items():
            drafter = step[index].sequence.drafter
            assert drafter is not None
            step[index].draft = drafter.draft(tokens)

    def _odds(self, sequence: Sequence) -> list[float]:
        if sequence.drafter is None:
            sequence.drafter = Drafter(sequence)
        sequence.drafter.follow()
        return sequence.drafter.odds(min(self._longest, sequence.space - 1))

    def _count(self, rows: int, gains: list[float]) -> int:
        """How many of the best offers to take beside `rows` rows."""
        plain = self._costs.relative(rows)
        best, chosen, gain = _MARGIN * rows, 0, 0.0
        refused, least = 0, math.inf
        for count, more in enumerate(gains, 1):
            gain += more
            if (rows + count) % _ROUND:
                continue
            if rows > 1 and self._costs.seconds(rows + count) > self._max_itl:
                break
            loss = rows * math.log(self._costs.relative(rows + count) / plain)
            if gain - loss > best:
                best, chosen = gain - loss, count
            elif loss - gain < least:
                refused, least = count, loss - gain
        if refused and not chosen:
            self._costs.forgive(rows + refused)
        return chosen
