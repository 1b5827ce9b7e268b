"""An answer as markdown on a terminal, drawn while it comes.

A block (paragraph, list, table, code) that has ended is printed once and never touched again;
only the last one, which may still grow, is drawn anew.
"""

from __future__ import annotations

import re
import time
from itertools import pairwise
from typing import ClassVar

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement
from rich.spinner import Spinner
from rich.syntax import Syntax
from rich.text import Text

from llmengine.chat.delta import Delta
from llmengine.cli.repl.region import Block, Region
from llmengine.cli.writer import harmless

FRAME = 1 / 15  # seconds between two drawings
PATIENCE = 0.4  # seconds without an answer before a spinner shows
_parser = MarkdownIt().enable("strikethrough").enable("table")  # as rich's own


def blocks(text: str) -> list[str]:
    """`text` cut into its top-level blocks, of which all but the last have ended."""
    lines = re.split(r"(?<=\n)", text)
    tokens = [token for token in _parser.parse(text) if token.map and token.level == 0]
    cuts = [0, *(token.map[0] for token in tokens[1:] if token.map), len(lines)]
    return ["".join(lines[start:end]) for start, end in pairwise(cuts)]


class MarkdownWriter:
    """Shows one answer; see `llmengine.cli.writer.Writer`."""

    def __init__(self, console: Console) -> None:
        self._region = Region(console)
        self._content = ""  # of the block that may still grow
        self._reasoning = ""  # the line of thinking that may still grow
        self._final: list[RenderableType] = []  # what the next drawing prints for good
        self._begun = False  # whether anything is final
        self._spinner = Spinner("dots", style="dim")
        self._started = self._drawn = time.monotonic()
        self._pause = FRAME

    def show(self, delta: Delta) -> None:
        self._reasoning += harmless(delta.reasoning)
        if delta.content:
            self._end_reasoning()
            self._content += harmless(delta.content)
        if time.monotonic() - self._drawn >= self._pause:
            self._draw()

    def end(self) -> None:
        self._end_reasoning()
        self._end_content(blocks(self._content))
        self._region.close(self._final)

    def _draw(self) -> None:
        """What has ended for good, and the rest; slow drawings become rarer."""
        began = time.monotonic()
        lines = self._reasoning.rstrip("\n").rpartition("\n")[0]
        if lines:
            self._think(lines)
            self._reasoning = self._reasoning[len(lines) + 1 :]
        *ended, self._content = blocks(self._content)
        self._end_content(ended)
        self._region.draw(self._final, self._changing())
        self._final = []
        self._drawn = time.monotonic()
        self._pause = max(FRAME, 4 * (self._drawn - began))

    def _end_reasoning(self) -> None:
        if self._reasoning.strip():
            self._think(self._reasoning.rstrip())
        self._reasoning = ""

    def _end_content(self, ended: list[str]) -> None:
        for text in ended:
            if text.strip():
                self._final.append(Block(_Markdown(text), below=self._begun))
                self._begun = True

    def _think(self, text: str) -> None:
        self._final.append(_thought(text))
        self._begun = True

    def _changing(self) -> RenderableType:
        if self._content.strip():
            return Block(_Markdown(self._content), below=self._begun)
        if self._reasoning.strip():
            return _thought(self._reasoning)
        waiting = not self._begun and time.monotonic() - self._started > PATIENCE
        return self._spinner if waiting else Block("")


def _thought(text: str) -> Text:
    return Text(text, style="dim italic")


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
