"""An answer as markdown on a terminal, drawn while it comes.

A block (paragraph, list, table, code) that has ended is printed once and never touched again;
only the last one, which may still grow, is drawn anew.
"""

from __future__ import annotations

import time
from typing import ClassVar

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement
from rich.segment import Segment
from rich.spinner import Spinner
from rich.syntax import Syntax
from rich.text import Text

from llmengine.chat.output import Delta
from llmengine.cli.writer import harmless

FRAME = 1 / 15  # seconds between two drawings
PATIENCE = 0.4  # seconds without an answer before a spinner shows
_parser = MarkdownIt().enable("strikethrough").enable("table")  # as rich's own


def last_block(text: str) -> int:
    """Where the last top-level block of `text` begins: what stands before it has ended."""
    starts = [token.map[0] for token in _parser.parse(text) if token.map and token.level == 0]
    lines = text.split("\n")[: max(starts, default=0)]
    return sum(len(line) + 1 for line in lines)


class MarkdownWriter:
    """Shows one answer; see `llmengine.cli.writer.Writer`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._content = ""  # of the block that may still grow
        self._reasoning = ""  # the line of thinking that may still grow
        self._printed = False  # whether anything stands above
        self._started = self._drawn = time.monotonic()
        self._pause = FRAME
        self._live = Live(
            console=console, auto_refresh=False, transient=True, get_renderable=self._tail
        )
        self._live.start()

    def show(self, delta: Delta) -> None:
        self._reasoning += harmless(delta.reasoning)
        if delta.content:
            self._end_reasoning()
            self._content += harmless(delta.content)
        if time.monotonic() - self._drawn >= self._pause:
            self._draw()

    def end(self) -> None:
        with self._console:  # one write, so that nothing flickers
            content, self._content = self._content, ""
            reasoning, self._reasoning = self._reasoning, ""
            self._live.stop()
            self._reasoning = reasoning
            self._end_reasoning()
            self._print_content(content)

    def _draw(self) -> None:
        """Print what has ended, draw the rest again; slow drawings become rarer."""
        began = time.monotonic()
        with self._console:
            self._print_ended()
            self._live.refresh()
        self._drawn = time.monotonic()
        self._pause = max(FRAME, 4 * (self._drawn - began))

    def _print_ended(self) -> None:
        at = self._reasoning.rstrip("\n").rfind("\n") + 1
        lines, self._reasoning = self._reasoning[:at], self._reasoning[at:]
        if lines:
            self._print_reasoning(lines)
        at = last_block(self._content)
        blocks, self._content = self._content[:at], self._content[at:]
        self._print_content(blocks)

    def _end_reasoning(self) -> None:
        rest, self._reasoning = self._reasoning.rstrip(), ""
        if rest:
            self._print_reasoning(rest)

    def _print_reasoning(self, text: str) -> None:
        self._console.print(_thinking(text))
        self._printed = True

    def _print_content(self, text: str) -> None:
        if text.strip():
            self._console.print(_Block(_Markdown(text), below=self._printed))
            self._printed = True

    def _tail(self) -> RenderableType:
        if self._content.strip():
            return _Block(_Markdown(self._content), below=self._printed, crop=True)
        if self._reasoning.strip():
            return _Block(_thinking(self._reasoning), crop=True)
        waiting = not self._printed and time.monotonic() - self._started > PATIENCE
        return Spinner("dots", style="dim") if waiting else ""


def _thinking(text: str) -> Text:
    return Text(text.removesuffix("\n"), style="dim italic")


class _Block:
    """A renderable with one blank line above it if it stands `below` something, and no others.

    `crop` leaves as much of its end as fits on the screen.
    """

    def __init__(
        self, renderable: RenderableType, *, below: bool = False, crop: bool = False
    ) -> None:
        self._renderable = renderable
        self._below = below
        self._crop = crop

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._renderable, options, pad=False)
        filled = [n for n, line in enumerate(lines) if any(part.text.strip() for part in line)]
        lines = lines[filled[0] : filled[-1] + 1] if filled else []
        if self._below:
            lines.insert(0, [])
        if self._crop:
            lines = lines[-max(1, console.height - 1) :]
        for line in lines:
            yield from line
            yield Segment.line()


class _Code(CodeBlock):
    """Without padding, so that what is copied from the terminal is the code."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip()
        yield Syntax(code, self.lexer_name, theme="ansi_dark", word_wrap=True)


class _Heading(Heading):
    """To the left, all of them."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = self.text.copy()
        text.justify = "left"
        yield text


class _Markdown(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "fence": _Code,
        "code_block": _Code,
        "heading_open": _Heading,
    }

    def __init__(self, text: str) -> None:
        super().__init__(text, hyperlinks=False)
