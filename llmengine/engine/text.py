"""From token bytes to text: whole characters only, and nothing past a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """The text of one completion, piece by piece.

    Bytes of an unfinished character are held back, and so is text that may become a stop string;
    the pieces joined are exactly the completion.
    """

    def __init__(self, stops: Sequence[str] = (), *, whole: bool = False) -> None:
        """With `whole`, no text is given while any is held back."""
        self._whole = whole
        self._unfinished = b""  # bytes of a character
        self._stops = tuple(stops)
        self._held = ""
        self.stop: str | None = None  # the stop string that was met

    def push(self, piece: bytes) -> str:
        """Take a token's bytes, return the text that is now sure."""
        data = self._unfinished + piece
        text, used = codecs.utf_8_decode(data, "replace", False)
        self._unfinished = data[used:]
        if not self._stops:
            return text
        self._held += text
        found = [(at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            at, self.stop = min(found, key=lambda each: each[0])
            text, self._held = self._held[:at], ""
            return text
        unsure = self._unsure()
        if unsure and self._whole:
            return ""
        sure = len(self._held) - unsure
        text, self._held = self._held[:sure], self._held[sure:]
        return text

    def _unsure(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        return max(
            (
                size
                for stop in self._stops
                for size in range(min(len(stop) - 1, len(self._held)), 0, -1)
                if stop.startswith(self._held[-size:])
            ),
            default=0,
        )

    def flush(self) -> str:
        """The rest, when the completion ended; an unfinished character is dropped."""
        text, self._held = self._held, ""
        return text
