"""Writing an answer as it comes: the text to stdout, the thinking to stderr."""

from __future__ import annotations

from typing import Protocol, TextIO

from llmengine.chat.delta import Delta
from llmengine.log import colour_allowed

# What a model says must not move the cursor or retitle the window: control characters, except
# tab and line feed, are shown by their pictures (U+2400...), those of Latin-1 by U+FFFD.
_PICTURES = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}


def harmless(text: str) -> str:
    """`text`, fit for a terminal."""
    return text.translate(_PICTURES)


class Writer(Protocol):
    """Where an answer is shown."""

    def show(self, delta: Delta) -> None:
        """Add to the answer; an empty delta says that time passes."""
        ...

    def end(self) -> None:
        """The answer is complete, or will not be."""
        ...


class PlainWriter:
    """Text as it is, each piece flushed, and one line feed at its end.

    Line feeds are held back until text follows, so that however many the model ends with, one
    is written. The thinking goes to `notes`, dimmed on a terminal.
    """

    def __init__(self, out: TextIO, notes: TextIO) -> None:
        self._out = out
        self._notes = notes
        self._terminal = out.isatty()
        self._dim = colour_allowed(notes)
        self._line_feeds = ""
        self._thinking = False
        self.begun = False  # whether anything was written

    def show(self, delta: Delta) -> None:
        self.begun = self.begun or bool(delta)
        if delta.reasoning:
            self._think(delta.reasoning)
        if delta.content:
            self._end_thinking()
            self._write(delta.content)

    def end(self) -> None:
        self._end_thinking()
        self._line_feeds = ""
        self._out.write("\n")
        self._out.flush()

    def _write(self, text: str) -> None:
        text = self._line_feeds + text
        body = text.rstrip("\n")
        self._line_feeds = text[len(body) :]
        self._out.write(harmless(body) if self._terminal else body)
        self._out.flush()

    def _think(self, text: str) -> None:
        text = harmless(text)
        self._notes.write(f"\x1b[2m{text}\x1b[0m" if self._dim else text)
        self._notes.flush()
        self._thinking = True

    def _end_thinking(self) -> None:
        if self._thinking:
            self._notes.write("\n\n")
            self._notes.flush()
        self._thinking = False
