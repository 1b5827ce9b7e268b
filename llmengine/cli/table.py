"""Rows for people and for programs: a table on a terminal, tab-separated columns in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from llmengine.log import printable


def plain(value: object) -> str:
    """A value as a program reads it; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return printable(str(value))


class Column(Struct, frozen=True):
    """`human` words a value for a terminal, where `plain` does not do."""

    name: str
    value: Callable[[Any], object]
    human: Callable[[Any], str] = plain
    right: bool = False  # as numbers are aligned


def show(columns: Sequence[Column], rows: Iterable[object]) -> None:
    """Print a line for each row, and on a terminal the names of the columns above them."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(plain(column.value(row)) for column in columns))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for column in columns:
        table.add_column(column.name, justify="right" if column.right else "left", no_wrap=True)
    for row in rows:
        # Text, as what others wrote must not be taken for markup.
        table.add_row(*(Text(_worded(column, row)) for column in columns))
    Console(soft_wrap=False, highlight=False).print(table)


def _worded(column: Column, row: object) -> str:
    value = column.value(row)
    return "" if value is None else printable(column.human(value))


def size(count: int) -> str:
    """`12.3 MiB`"""
    value, unit = float(count), 0
    while value >= 1024 and unit < 4:
        value, unit = value / 1024, unit + 1
    name = ("B", "KiB", "MiB", "GiB", "TiB")[unit]
    return f"{value:.1f} {name}" if unit else f"{count} B"


def duration(seconds: float) -> str:
    """`5 s`, `3 min`, `2 h` or `4 d`"""
    for least, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= least:
            return f"{seconds / least:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def number(count: int) -> str:
    """`12,345`"""
    return f"{count:,}"


def short(ids: Sequence[str], least: int = 8) -> dict[str, str]:
    """Beginnings of the ids that tell them apart, all of the same length."""
    length = least
    while len({each[:length] for each in ids}) < len(set(ids)):
        length += 1
    return {each: each[:length] for each in ids}
