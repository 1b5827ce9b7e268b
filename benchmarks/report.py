"""What a benchmark found: a table for people, tab-separated columns in a pipe, or JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from llmengine.cli.table import Column, show


class Spread(Struct, frozen=True):
    """Values of several rounds."""

    median: float
    least: float
    most: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        return Spread(statistics.median(values), min(values), max(values))

    def worded(self, unit: float = 1.0, digits: int = 1) -> str:
        """`12.3 (11.9 to 13.0)`, in multiples of `unit`."""
        median, least, most = (
            f"{value / unit:,.{digits}f}" for value in (self.median, self.least, self.most)
        )
        return f"{median} ({least} to {most})"


def report(rows: Sequence[Struct], columns: Sequence[Column], *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(rows).decode())
    else:
        show(columns, rows)


def right(name: str, value: Any) -> Column:
    """A column of numbers."""
    return Column(name, value, right=True)
