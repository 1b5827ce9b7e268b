"""Lines at the end of a terminal's text that are drawn anew while what stands above stays."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.control import Control
from rich.segment import ControlType, Segment

_Lines = list[list[Segment]]


class Region:
    """Rich's `Live` draws the old lines once more before what is printed above them, and scrolls.

    Here each drawing is one write: the old lines erased, what is final, the new lines.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._height = 0
        console.show_cursor(False)

    def draw(self, final: Sequence[RenderableType], changing: RenderableType) -> None:
        """Print `final` for good, and below it the end of `changing`, as much as fits."""
        with self._console:
            self._erase()
            for each in final:
                self._console.print(each)
            lines = self._console.render_lines(changing, pad=False)
            lines = lines[-max(1, self._console.height - 1) :]
            self._height = len(lines)
            self._console.print(_Drawn(lines))

    def close(self, final: Sequence[RenderableType]) -> None:
        """Print `final` in place of the changing lines."""
        with self._console:
            self._erase()
            for each in final:
                self._console.print(each)
            self._console.show_cursor(True)

    def _erase(self) -> None:
        line = ((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2))
        self._console.control(Control((ControlType.CARRIAGE_RETURN,), *line * self._height))
        self._height = 0


class Block:
    """A renderable with one blank line above it if it stands `below` something, and no others."""

    def __init__(self, renderable: RenderableType, *, below: bool = False) -> None:
        self._renderable = renderable
        self._below = below

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._renderable, options, pad=False)
        filled = [n for n, line in enumerate(lines) if any(part.text.strip() for part in line)]
        lines = lines[filled[0] : filled[-1] + 1] if filled else []
        yield _Drawn([[], *lines] if self._below else lines)


class _Drawn:
    """Lines that were rendered before."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self._lines:
            yield from line
            yield Segment.line()
