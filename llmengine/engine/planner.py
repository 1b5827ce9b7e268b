"""Which rows are worth adding to a step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from msgspec import Struct

from llmengine.engine.costs import Costs
from llmengine.engine.draft_model import SHARE, DraftModel

_ROUND = 4  # llama.cpp multiplies repacked weights by so many rows at once
_MARGIN = 0.03  # what a draft has to bring for each sequence of the step


class Offer(Struct):
    """One more row for a sequence of the step."""

    gain: float  # of the logarithm of its speed
    index: int
    depth: int = 0  # tokens that the draft model has to write before this one is known
    lag: int = 0  # and that it has to read before


def offers(index: int, odds: Iterable[float], lag: int | None = None) -> Iterator[Offer]:
    """Rows for tokens that are right with these chances; with `lag` they are yet to be drafted."""
    tokens = 1.0
    for depth, chance in enumerate(odds, 1):
        gain = math.log1p(chance / tokens)
        tokens += chance
        if lag is None:
            yield Offer(gain, index)
        else:
            yield Offer(gain, index, depth, lag if depth == 1 else 0)


class Plan(Struct):
    """Offers to take, and what they bring beyond what they cost."""

    worth: float
    offers: list[Offer]

    @property
    def depths(self) -> dict[int, int]:
        """Tokens that are yet to be drafted, by sequence."""
        found: dict[int, int] = {}
        for each in self.offers:
            if each.depth:
                found[each.index] = max(each.depth, found.get(each.index, 0))
        return found


class Drafting(Struct):
    """What a draft model has to do for some offers."""

    sequences: int = 0
    depth: int = 0
    lag: int = 0

    def add(self, offer: Offer) -> None:
        self.sequences += offer.depth == 1
        self.depth = max(self.depth, offer.depth)
        self.lag += offer.lag


class Planner:
    """A row costs all sequences of the step time and may bring one of them a token.

    Each one's speed counts the same: the sum of its logarithms is what is made larger. So much is
    drafted for one sequence alone, and for one of many only what is all but sure.
    """

    def __init__(self, costs: Costs, max_itl: float, model: DraftModel | None) -> None:
        self._costs = costs
        self._max_itl = max_itl
        self._model = model

    def has_time(self, rows: int) -> bool:
        """Whether a draft model may read something before a step of so many rows."""
        return rows == 1 or self._costs.seconds(rows) <= (1 - SHARE) * self._max_itl

    def plan(self, rows: int, offered: list[Offer], room: int) -> Plan:
        """The best of the offers beside `rows` rows, `room` at most."""
        best = Plan(_MARGIN * rows, [])
        if len(offered) < _ROUND - 1:
            return best
        offered = sorted(offered, key=lambda each: each.gain, reverse=True)[:room]
        gain, drafting = 0.0, Drafting()
        refused, least = 0, math.inf
        for count, offer in enumerate(offered, 1):
            gain += offer.gain
            drafting.add(offer)
            if (rows + count) % _ROUND:
                continue
            seconds = self._seconds(drafting)
            if rows > 1 and self._costs.seconds(rows + count) + seconds > self._max_itl:
                break
            worth = gain - self._loss(rows, count, seconds)
            if worth > best.worth:
                best = Plan(worth, offered[:count])
                continue
            short = self._loss(rows, count) - gain
            if -_MARGIN * rows <= short < least:  # it is the rows that cost too much
                refused, least = count, short
        if refused and not best.offers:
            self._costs.forgive(rows + refused)
        return best

    def _seconds(self, drafting: Drafting) -> float:
        if not self._model or not drafting.depth:
            return 0.0
        return self._model.seconds(drafting.sequences, drafting.depth, drafting.lag)

    def _loss(self, rows: int, count: int, seconds: float = 0.0) -> float:
        """What `count` more rows cost, and the seconds before the step."""
        longer = self._costs.relative(rows + count) + self._costs.units(seconds)
        return rows * math.log(longer / self._costs.relative(rows))
