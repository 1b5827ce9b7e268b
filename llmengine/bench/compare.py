"""Two reports side by side: ratios, and which of them are more than noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from llmengine.bench.report import Report, Spread
from llmengine.errors import InvalidRequest

# better or worse: the ranges of the rounds lie apart; noise: they overlap; unknown: of one round
# nobody knows how it varies.
Mark = Literal["better", "worse", "noise", "unknown"]

# Figures by which nothing gets better or worse.
_COUNTS = ("total_input_tokens", "total_output_tokens", "memory_share", "arithmetic_share")
_LESS_IS_BETTER = ("duration", "failed", "refused")


class Difference(Struct, frozen=True, kw_only=True):
    row: str
    figure: str
    before: Spread
    after: Spread

    @property
    def ratio(self) -> float | None:
        return self.after.median / self.before.median if self.before.median else None

    @property
    def mark(self) -> Mark:
        before, after = self.before, self.after
        if min(before.rounds, after.rounds) < 2:
            return "unknown"
        if before.least <= after.most and after.least <= before.most:
            return "noise"
        less = after.median < before.median
        return "better" if less == less_is_better(self.figure) else "worse"


def less_is_better(figure: str) -> bool:
    return figure.endswith("_ms") or figure in _LESS_IS_BETTER


def differences(before: Report, after: Report) -> Iterator[Difference]:
    """Of the figures that both have; raises InvalidRequest where there are none."""
    if before.kind != after.kind:
        raise InvalidRequest(f"one report is of a {before.kind}, the other of a {after.kind}")
    rows = {row.name: row for row in before.rows}
    common = [(rows[row.name], row) for row in after.rows if row.name in rows]
    if not common:
        raise InvalidRequest("the reports have no row in common")
    for one, other in common:
        for name, spread in other.figures.items():
            if name in one.figures and name not in _COUNTS:
                yield Difference(
                    row=other.name, figure=name, before=one.figures[name], after=spread
                )
