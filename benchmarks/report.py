"""What a benchmark found: a table for people, tab-separated columns in a pipe, or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from llmengine.cli.table import Column, show


def report(rows: Sequence[Struct], columns: Sequence[Column], *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(rows).decode())
    else:
        show(columns, rows)


def right(name: str, value: Any) -> Column:
    """A column of numbers."""
    return Column(name, value, right=True)
