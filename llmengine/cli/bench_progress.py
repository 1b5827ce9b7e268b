"""How far a benchmark is, on stderr: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from llmengine.bench.progress import Progress


class Bar:
    """The part that runs; the ones before it are gone."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task = bars.add_task("")

    def begin(self, what: str, total: int) -> None:
        self._bars.reset(self._task, description=what, total=total)

    def advance(self) -> None:
        self._bars.advance(self._task)


@contextmanager
def shown() -> Iterator[Progress]:
    if not sys.stderr.isatty():
        from llmengine.bench.progress import Silent

        yield Silent()
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True), transient=True) as bars:
        yield Bar(bars)
